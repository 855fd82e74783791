"""Evaluation of a bundle's scores: quality, by segment, and drift since training. Needs no PyTorch."""
