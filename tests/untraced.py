"""Keeps the coverage tool from looking on where nothing runs that it measures.

It slows down all Python code by half or more, other projects' too: what a command imports, what Hypothesis does
between two examples, what PyTorch does in an export. A plugin of the coverage tool (`pyproject.toml`), so that the
processes which tests start import in the same way. Imports nothing that would have to be measured.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
OTHERS = (f"{ROOT}/.venv/", f"{ROOT}/venv/")
"""Environments within this folder, whose modules are not this project's."""

_HERE = threading.local()
"""`trace`: the trace function of this thread that `untraced` has taken away."""


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the coverage tool looking on, but where it comes to what `traced` made."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        trace = remember_trace()
        # Taken away and put back in one frame, or the calls and returns that the tool sees would not match.
        sys.settrace(None)
        try:
            return function(*arguments, **options)
        finally:
            sys.settrace(trace)

    return call


def remember_trace() -> Any:
    """The trace function, which the caller is about to take away and to put back."""
    trace = sys.gettrace()
    if trace is not None:
        _HERE.trace = trace
    return trace


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the coverage tool looking on, also when something `untraced` calls it."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        outer = sys.gettrace()
        hidden = getattr(_HERE, "trace", None)
        if outer is not None or hidden is None:
            return function(*arguments, **options)
        sys.settrace(hidden)
        try:
            return function(*arguments, **options)
        finally:
            sys.settrace(outer)

    return call


def is_measured(path: str) -> bool:
    return path.startswith(f"{ROOT}/") and not path.startswith(OTHERS)


def coverage_init(*_: Any) -> None:
    """What the coverage tool calls before it begins: modules of other projects are imported `untraced`."""
    original = SourceFileLoader.exec_module
    if hasattr(original, "__wrapped__"):
        return
    ours, others = traced(original), untraced(original)

    @functools.wraps(original)
    def exec_module(self: SourceFileLoader, module: ModuleType) -> None:
        (ours if is_measured(self.path) else others)(self, module)

    SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign]
