"""Networks in PyTorch: features inside the graph, an encoder for each kind of event, their fusion into hazards."""
