"""Explains a user's score by scoring changed histories."""
