"""Outlook: forecasts of how many users of a portfolio will default, by period, and their record in the past."""
