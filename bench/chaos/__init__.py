"""Chaos: workers killed and frozen while events arrive as they do in life, and an oracle that says what must come.

`plan` draws a run from a seed, `feed` plays the lenders, `conductor` disturbs the workers, `oracle` judges, `run` does
all of it. For testing: on a broker of your own it makes topics, and deletes them again.
"""
