"""The state of every user: the layout of a `row`, all rows in memory (`slab`), and on disk (`resident`, `archive`)."""
