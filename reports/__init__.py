"""Reports that people read: drift, outlook, explanation, faithfulness.

Reads, chooses, words and draws; statistics are in `model`. `stream` and `bench` import nothing from here.
"""
