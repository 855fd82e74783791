"""Training: from sequences to a bundle. Needs PyTorch; serving imports nothing of this."""
