"""Records of topics kept in Parquet files beyond the retention of the topics: written, checked, read and published."""
