"""Scoring: from records to scores, alerts and states. No I/O; the clock is an argument."""
