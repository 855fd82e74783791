"""The pages of the desk, rendered on the server. What they do is done by `desk.cases` and `desk.access`."""
