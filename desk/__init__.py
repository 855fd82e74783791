"""The desk: pages on which collectors work their alerts, and the API that other services ask.

All that it keeps is in PostgreSQL, so every process is alike and may end at any moment. It reads no event topic.
"""
