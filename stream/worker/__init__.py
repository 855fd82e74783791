"""The worker process: its Faust app, the loop from polls to durable scores, and the order of checkpoints."""
