"""How long topics keep what they hold: what is set, what it comes to, and what a replay or a reader would miss."""
