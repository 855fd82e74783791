"""What the worker is compared with. Each is a process: `python -m bench.contenders.<module> <task as JSON>`.

A contender reads the four input topics from their beginning, writes one score per event to its output topic and runs
until it is stopped. Those of other frameworks may run in another environment (see `bench.peers`), so a module here
imports no more than its framework, onnxruntime, numpy, msgspec, `events` and `model.bundle`, and `stream` only where
its environment is Foreshock's own.
"""
