"""What README shows is true: its records are published, its example runs, its figures are those of the reports.

Run as a program, this file prints the records of today and draws the picture of the alert again.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from events.instalments import with_missed_among
from events.types import KINDS
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from reports.alert_picture import alert_picture
from stream.kafka.publisher import partition_of
from stream.outputs import Alert, Score
from stream.scoring.intake import Taken
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "pictures" / "alert.svg"
USER = "u0000014"
MOST_LINES = 150

PORTFOLIOS = (
    ("simulated, 12,000 borrowers", "simulator-12000", "out of time"),
    ("Taiwan, 30,000 card clients", "taiwan", "5-fold"),
    ("US auto loans, later months", "auto-loans", "out of time"),
    ("US auto loans, another deal", "auto-loans", "across deals"),
    ("Berka, 682 loans of a Czech bank", "berka", "5-fold"),
)
"""Rows of the table of AUC: their names, the report, and the setting of the report."""


def blocks(language: str) -> list[str]:
    """Fenced blocks of README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@cache
def published() -> tuple[Alert, Score]:
    """The escalation of `USER`'s alert and the score of the same event, as workers publish them on this machine."""
    bundle, settings = Bundle.load(PRETRAINED_BUNDLE), load_settings()
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(bundle, settings.alert_policy(bundle.thresholds), slab, settings.topics)
    offsets: Counter[tuple[str, int]] = Counter()
    taken = []
    events = open_dataset("simulator", users=40, months=14, seed=20_240).events()
    for event in with_missed_among(events, settings.grace_days):
        key = event.user_id.encode()
        partition = partition_of(key, settings.partitions)
        at_ms = round(event.occurred_at.timestamp() * 1000)
        offset = offsets[event.KIND, partition]
        offsets[event.KIND, partition] += 1
        taken.append(Taken(event.KIND, KINDS.index(event.KIND), partition, offset, key, at_ms, event, None))
    scored = scorer.score(taken)
    alerts = (msgspec.json.decode(value, type=Alert) for values in scored.alerts.values() for _, value in values)
    alert = next(one for one in alerts if (one.user_id, one.kind) == (USER, "escalated"))
    scores = (msgspec.json.decode(value, type=Score) for values in scored.scores.values() for _, value in values)
    return alert, next(one for one in scores if (one.user_id, one.sequence) == (USER, alert.sequence))


def approximate(value: Any) -> Any:
    """A JSON value whose floats equal those of another kind of processor."""
    if isinstance(value, dict):
        return {name: approximate(part) for name, part in value.items()}
    if isinstance(value, list):
        return [approximate(part) for part in value]
    return pytest.approx(value, abs=2e-3) if isinstance(value, float) else value


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("number", [0, 1], ids=["alert", "score"])
def test_the_records_are_those_that_are_published(number: int) -> None:
    record = published()[number]
    msgspec.json.decode(blocks("json")[number], type=type(record), strict=True)
    assert json.loads(blocks("json")[number]) == approximate(msgspec.to_builtins(record))


def test_the_picture_is_that_of_the_record() -> None:
    alert = msgspec.json.decode(blocks("json")[0], type=Alert)
    assert PICTURE.read_text(encoding="utf-8") == alert_picture(alert), f"run {Path(__file__).name} as a program"


def test_the_consumer_runs_and_skips_repeats(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks("python")
    first = json.loads(blocks("json")[1])
    later = first | {"sequence": first["sequence"] + 1, "level": "LOW", "score": 0.01}
    another_model = first | {"model": "0" * 16, "sequence": 1, "score": 0.5}
    sent = [first, first, later, first, another_model]

    class KafkaConsumer:
        def __init__(self, *topics: str, **options: str) -> None:
            assert topics == ("scores",)
            assert set(options) == {"bootstrap_servers", "group_id", "isolation_level"}

        def __iter__(self) -> Iterator[SimpleNamespace]:
            return (SimpleNamespace(value=json.dumps(one).encode()) for one in sent)

    monkeypatch.setattr("kafka.KafkaConsumer", KafkaConsumer)
    exec(compile(example, str(README), "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[5] for line in said] == [str(first["score"]), "0.5"]
    assert len([line for line in example.splitlines() if line]) <= 11


@pytest.mark.parametrize(("name", "report", "setting"), PORTFOLIOS, ids=[name for name, _, _ in PORTFOLIOS])
def test_the_figures_are_those_of_the_reports(name: str, report: str, setting: str) -> None:
    found = json.loads((ROOT / "docs" / "models" / f"{report}.json").read_bytes())
    (judged,) = [one for one in found["settings"] if one["name"] == setting]
    rows = {row["name"]: row for row in judged["rows"]}
    cells = [
        f"{rows[model]['auc']:.3f} ({rows[model]['auc_low']:.3f}–{rows[model]['auc_high']:.3f})"
        for model in ("lstm-attention", judged["best_served"], "lightgbm")
    ]
    assert f"| {name} | {' | '.join(cells)} |" in README.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    for record in published():
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    PICTURE.write_text(alert_picture(msgspec.json.decode(blocks("json")[0], type=Alert)), encoding="utf-8")
