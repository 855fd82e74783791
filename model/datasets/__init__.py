"""Data sets: every source of borrowers' events with the truth about them, behind one protocol (`dataset`).

Events are what a consumer of the topics may see. The truth (`Outcome`) is handed out apart from them and must never
become a field of an event. `sources` opens a data set by its name.
"""
