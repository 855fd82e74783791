"""Data sets: sources of borrowers' events and of the truth about them, behind one protocol (`dataset`).

Events hold what a consumer of the topics may know. The truth (`Outcome`) is kept apart and must never become a field of
an event. `sources` opens a data set by its name.
"""
