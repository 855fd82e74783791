"""What pages and documents are made of: charts as SVG, and the marked sections of documents that code writes.

Lies in `model` because its training curves and comparison tables need it and may import no higher package; `reports`
and `bench` use the same. Computes nothing about models and reads or writes no file.
"""
