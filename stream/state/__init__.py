"""The state of all users: the layout of a `row`, the rows in memory (`slab`), and rows on disk (`resident`,
`archive`)."""
