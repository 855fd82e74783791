"""Outlook: how many of a portfolio will default, by period, from what is known today, and how such forecasts held."""
