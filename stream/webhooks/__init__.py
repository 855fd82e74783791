"""Webhooks: receivers by HTTP that are told of alerts, and of what was done about them, at least once and in order."""
