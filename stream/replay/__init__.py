"""Replay: scores a range of the past again (`run`) and compares it with what was published live (`diff`)."""
