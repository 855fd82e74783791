"""Replay: scoring a range of the past again (`run`) and what then differs (`diff`)."""
