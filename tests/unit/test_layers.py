"""The layers: who may import whom. Reads every import of every module, lazy ones and those for type checkers too."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

BELOW: dict[str, tuple[str, ...]] = {
    "events": (),
    "model": ("events",),
    "migrations": ("stream",),
    "stream": ("events", "model"),
    "reports": ("events", "model", "stream"),
    "desk": ("events", "model", "stream", "reports"),
    "bench": ("events", "model", "stream", "reports", "desk"),
    "foreshock": ("events", "model", "stream", "reports", "desk", "bench"),
}
"""What each package may import beside itself."""

ROOMS: dict[str, tuple[str, ...]] = {
    "stream.structured": (),
    "stream.outputs": (),
    "stream.topics": (),
    "stream.portfolio": (),
    "stream.telemetry": (),
    "stream.comparison": ("stream.outputs",),
    "stream.alerts": ("model.bundle", "stream.outputs", "stream.structured"),
    "stream.desk_roles": (),
    "stream.settings": (
        "stream.alerts.policy",
        "stream.desk_roles",
        "stream.portfolio",
        "stream.settings_file",
        "stream.topics",
    ),
    "stream.settings_file": (),
    "stream.logs": ("stream.settings",),
    "stream.kafka": ("stream.logs", "stream.settings", "stream.structured", "stream.topics"),
    "stream.case_records": ("stream.outputs",),
    "stream.database": ("stream.case_records", "stream.desk_roles", "stream.outputs", "stream.settings"),
    "stream.state": ("stream.alerts", "stream.structured"),
    "stream.scoring": (
        "model.bundle",
        "stream.alerts",
        "stream.kafka.record",
        "stream.outputs",
        "stream.portfolio",
        "stream.state",
        "stream.portfolio",
        "stream.structured",
        "stream.topics",
    ),
    "stream.event_archive": ("stream.embedded.lock", "stream.kafka", "stream.topics"),
    "stream.embedded": ("stream.database.connection", "stream.kafka"),
}
"""What each room of `stream` may import of `model` and `stream` beside itself. Rooms that are not here stand above."""

PURE = (
    "events",
    "stream.alerts",
    "stream.comparison",
    "stream.event_archive.manifest",
    "stream.state.row",
    "stream.state.slab",
    "stream.scoring",
    "stream.telemetry.catalogue",
    "stream.telemetry.health",
    "stream.telemetry.histogram",
    "model.statistics",
    "model.presentation",
)
"""What does no I/O and reads no clock."""

IMPURE = ("aiokafka", "faust", "kafka", "psycopg", "sqlalchemy", "socket", "asyncio", "time", "subprocess", "requests")


class Import(NamedTuple):
    """`importer` imports `imported` (both dotted) in `line` of `path`."""

    importer: str
    imported: str
    path: Path
    line: int

    def within(self, package: str) -> bool:
        return _is_in(self.imported, package)


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def modules(root: Path) -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    paths = [path for package in BELOW for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@functools.cache
def imports(root: Path) -> tuple[Import, ...]:
    """Every import of one of the project's modules; of `from package import module`, the module."""
    return tuple(_imports(root, modules(root)))


def _imports(root: Path, known: dict[str, Path]) -> Iterator[Import]:
    for importer, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole name"
                assert node.module is not None
                names = [
                    inner if (inner := f"{node.module}.{alias.name}") in known else node.module for alias in node.names
                ]
            for name in dict.fromkeys(names):
                yield Import(importer, name, path.relative_to(root), getattr(node, "lineno", 0))


def broken_rules(root: Path) -> list[str]:
    """`file:line rule` of every import that goes upwards, round in a circle of packages, or out of a pure module."""
    found = []
    for one in imports(root):
        package, other = one.importer.partition(".")[0], one.imported.partition(".")[0]
        where = f"{one.path}:{one.line} imports {one.imported}"
        if other in BELOW and other != package and other not in BELOW[package]:
            found.append(f"{where}: {package} may import {', '.join(BELOW[package]) or 'no other package'}")
        if package == "stream" and other == "model" and not one.within("model.bundle"):
            found.append(f"{where}: stream reads of model only model.bundle")
        if any(_is_in(one.importer, pure) for pure in PURE) and other in IMPURE:
            found.append(f"{where}: {one.importer} is pure, it does no I/O and takes its clock as an argument")
        for room, rooms in ROOMS.items():
            inside = _is_in(one.importer, room) and other in ("model", "stream") and not one.within(room)
            if inside and not any(one.within(allowed) for allowed in rooms):
                found.append(f"{where}: {room} may import {', '.join(rooms) or 'nothing of stream and model'}")
    return found


def circles(root: Path) -> list[list[str]]:
    """Modules that import each other, at import time or later, in rings."""
    edges: dict[str, set[str]] = {name: set() for name in modules(root)}
    for one in imports(root):
        if one.imported in edges and one.imported != one.importer:
            edges[one.importer].add(one.imported)
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
            return
        if name in done:
            return
        for other in sorted(edges[name]):
            visit(other, [*path, name])
        done.add(name)

    for name in sorted(edges):
        visit(name, [])
    return found


def test_no_import_breaks_a_rule() -> None:
    broken = broken_rules(ROOT)
    assert not broken, "\n" + "\n".join(broken)


def test_no_modules_import_each_other_in_a_circle() -> None:
    rings = circles(ROOT)
    assert not rings, "\n" + "\n".join(" → ".join(ring) for ring in rings)


@pytest.mark.parametrize(
    ("path", "content", "rule"),
    [
        ("events/types.py", "import stream.topics", "events may import no other package"),
        ("model/bundle.py", "def load():\n    from stream import topics", "model may import events"),
        ("stream/app.py", "from model.training import trainer", "only model.bundle"),
        ("stream/app.py", "if TYPE_CHECKING:\n    from reports.drift import Drift", "stream may import events, model"),
        ("stream/alerts/policy.py", "import time", "takes its clock as an argument"),
        (
            "stream/kafka/clients.py",
            "from stream.scoring.intake import Taken",
            "stream.kafka may import stream.logs, stream.settings",
        ),
        ("reports/drift.py", "from foreshock.options import console", "reports may import events, model, stream"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, path: str, content: str, rule: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(content)
    broken = broken_rules(tmp_path)
    assert any(one.startswith(f"{path}:") and rule in one for one in broken), broken


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a.py").write_text("def late():\n    from events import b")
    (tmp_path / "events" / "b.py").write_text("from events.a import late")
    assert circles(tmp_path) == [["events.a", "events.b", "events.a"]]
