"""Comparison of models: served models, challengers and the oracle, trained and judged on the same problems.

`problem` defines what is learnt and judged, `candidate` the protocol of a model, `folds` the problems of each source,
`roster` the candidates by name, `figures` the measures, `report` the result. Serving imports nothing of this package.
"""
