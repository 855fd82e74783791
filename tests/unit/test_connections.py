"""Addresses travel as `KafkaConnection` and `DatabaseConnection`: no function takes the text of one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("events", "model", "stream", "reports", "desk", "bench", "foreshock", "migrations")
NAMES = {"bootstrap_servers", "brokers", "broker", "servers", "database_url", "db_url", "url"}
ALLOWED = {"stream/kafka/connection.py", "stream/database/connection.py"}
"""Where text becomes a connection. Settings and command-line options are fields, not parameters."""


def _texts(annotation: ast.expr | None) -> bool:
    """Whether an annotation has `str` in it: `str`, `str | None`, `list[str]`; or there is none."""
    if annotation is None:
        return True
    return any(isinstance(node, ast.Name) and node.id == "str" for node in ast.walk(annotation))


def address_parameters(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every parameter of a function that holds addresses as text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                if argument.arg in NAMES and _texts(argument.annotation):
                    yield argument.lineno, f"{node.name}({ast.unparse(argument)})"


def test_no_function_takes_an_address_as_text() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {parameter}: take a KafkaConnection or DatabaseConnection"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in ALLOWED
        for line, parameter in address_parameters(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def f(bootstrap_servers: str): ...", 1),
        ("async def f(*, url: str | None = None): ...", 1),
        ("class A:\n    def f(self, servers: list[str], /): ...", 1),
        ("def f(database_url): ...", 1),
        ("def f(url: DatabaseConnection, name: str): ...", 0),
    ],
)
def test_what_counts_as_an_address(source: str, count: int) -> None:
    assert len(list(address_parameters(source))) == count
