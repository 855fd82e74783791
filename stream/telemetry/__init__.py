"""What an operator sees of a worker or sink: metrics, whether it is live and ready, and the server that tells both."""
