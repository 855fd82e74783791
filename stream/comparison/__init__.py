"""Compares what two models, or two policies, make of the same events: scores and alerts, in bounded memory. Pure."""
