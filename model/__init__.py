"""Model: what learns, and the bundle that carries what was learnt. Imports `events`, never `stream`."""
