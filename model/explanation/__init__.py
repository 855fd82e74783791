"""Explanation: what a user's score is made of, by scoring histories again."""
