"""Histories: the events of users as arrays, their labels, and which user and which time belongs to which part."""
