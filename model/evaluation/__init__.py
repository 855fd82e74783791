"""Evaluation: how good the scores of a bundle are, for whom, and whether they still hold. Needs no PyTorch."""
