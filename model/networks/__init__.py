"""Networks in PyTorch: features computed inside the graph, an encoder per kind of event, their fusion into hazards."""
