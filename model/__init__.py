"""Training, evaluation and explanation of models, and the bundle that carries a trained one. Imports `events`, never
`stream`."""
