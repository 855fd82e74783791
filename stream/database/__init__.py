"""PostgreSQL: connections, tables and their migration, the sink's writer, summaries, and the record of replays. Nothing
here reads Kafka or loads a model."""
