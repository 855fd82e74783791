"""The schema's history, one revision a file under `versions`; run by `stream.database.migration`."""
