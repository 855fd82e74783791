"""Inputs by the million, derived from good ones, for everything here that reads what others may have written."""
