"""The worker process: the Faust application, the loop from polls to durable scores, and what is durable when."""
