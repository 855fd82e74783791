"""One table: served models, challengers and the oracle trained and judged on the same problem.

`problem` says what is to be learnt and judged, `candidate` what takes part, `folds` makes problems of sources, `roster`
knows who takes part, `figures` measures, `report` writes down. Serving imports nothing of this.
"""
