"""Reads the names out of PromQL: which metrics and labels an expression is about. Knows no more of the language."""

from __future__ import annotations

import re

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"\{([^{}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_DURATION = re.compile(r"\[[^\]]*\]|\boffset\s+\S+")
_NAME = re.compile(r"[a-zA-Z_:][\w:]*")
_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}


def metrics(expression: str) -> set[str]:
    """Names of the time series that an expression selects."""
    text = _STRING.sub('""', expression)
    for part in (_MATCHERS, _GROUPING, _DURATION):
        text = part.sub(" ", text)
    return {name[0] for name in re.finditer(r"[a-zA-Z_:][\w:]*(?!\s*\()\b(?!\s*\()", text)} - _WORDS


def labels(expression: str) -> set[str]:
    """Names of the labels that an expression matches or groups by."""
    text = _STRING.sub('""', expression)
    matched = {part.strip() for found in _MATCHERS.findall(text) for part in re.split(r'[=!~]+""', found)}
    grouped = {name for found in _GROUPING.findall(text) for name in _NAME.findall(found)}
    return {name.strip(" ,") for name in matched} - {""} | grouped
