"""Reads PromQL: which metrics and labels an expression is about. What Prometheus would refuse raises `ValueError`."""

from __future__ import annotations

from collections.abc import Iterator

from promql_parser import AggregateExpr, BinaryExpr, Expr, VectorSelector, parse, walk


def metrics(expression: str) -> set[str]:
    """Names of the time series that an expression selects."""
    return {part.name for part in _parts(expression) if isinstance(part, VectorSelector) and part.name}


def labels(expression: str) -> set[str]:
    """Names of the labels that an expression matches or groups by."""
    found: set[str] = set()
    for part in _parts(expression):
        if isinstance(part, VectorSelector):
            found |= {matcher.name for matcher in part.matchers.matchers}
        elif isinstance(part, AggregateExpr) and part.modifier is not None:
            found |= set(part.modifier.labels)
        elif isinstance(part, BinaryExpr) and part.modifier is not None:
            found |= set(part.modifier.group_labels or ())
            found |= set(part.modifier.matching.labels if part.modifier.matching is not None else ())
    return found


def _parts(expression: str) -> Iterator[Expr]:
    found: list[Expr] = []
    walk(parse(expression), found.append)
    yield from found
