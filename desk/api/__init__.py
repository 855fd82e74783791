"""The API of the desk, `/v1`: JSON for other services. What it does is done by `desk.cases` and `desk.access`."""
