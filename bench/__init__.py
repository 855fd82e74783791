"""Side-by-side measurements: the worker next to what people would use instead, on one broker, machine and set of
events.

A measurement asserts nothing: it reports. May import `stream`, `model` and `events`; only `foreshock bench` imports it.
"""
