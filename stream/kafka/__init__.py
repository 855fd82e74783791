"""Kafka: clients, the batched transport of Faust, topics, the changelog. Knows nothing of what records mean."""
