"""Measurements of the worker beside other frameworks, on one broker, one machine and the same events.

A measurement reports figures and checks no limits. May import `stream`, `model` and `events`; only `foreshock bench`
imports it.
"""
