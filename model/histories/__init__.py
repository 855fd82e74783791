"""Histories: the events of users as arrays, their labels, and their split into training, validation and test parts."""
