"""Alerts: when they open, escalate and clear (`state_machine`, `policy`), and why (`facts`, `reasons`, `effects`)."""
