"""`foreshock explain --user U` on a running deployment: what it says of an alert is what the alert says, and true."""

from __future__ import annotations

import html.parser
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.reasons import CATALOGUE
from events.types import Event, encode_event
from model.bundle import Bundle
from model.datasets.delivery import arrivals_of
from model.datasets.sources import open_dataset
from stream.kafka.record import RawRecord
from stream.outputs import Alert, Score
from stream.replay.user_events import read_events
from stream.scoring.intake import Intake, Taken
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from tests import forked

Deploy = Callable[..., Any]
EXACT = 1e-6


def explain(deployment: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run(
        [
            "explain", *arguments, "--bootstrap-servers", str(deployment.kafka),
            "--topic-prefix", deployment.topics.prefix, "--application-id", deployment.settings.application_id,
        ]
    )  # fmt: skip


def score_of(deployment: Any, events: Sequence[Event]) -> float:
    """The score after the last of one user's events, by the scorer that workers run."""
    bundle = Bundle.load(PRETRAINED_BUNDLE)
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(bundle, deployment.settings.alert_policy(bundle.thresholds), slab, deployment.topics)
    taken = []
    for offset, event in enumerate(events):
        record = RawRecord(event.KIND, 0, offset, 0, event.user_id.encode(), encode_event(event))
        outcome = Intake(event.KIND).take(record, 10**15)
        assert isinstance(outcome, Taken)
        taken.append(outcome)
    return msgspec.json.decode(scorer.score(taken).scores[0][-1][1], type=Score).score


class Page(html.parser.HTMLParser):
    """What stands on a page: its text, its pictures by name and how many marks each has, and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.pictures: dict[str, int] = {}
        self.fetched: list[str] = []
        self._open: list[str] = []
        self._picture = ""
        self.feed(text)
        assert self._open == [], "every picture is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value is not None]
        if tag == "svg":
            self._open.append(tag)
            self._picture = dict(attrs)["aria-label"] or ""
            self.pictures.setdefault(self._picture, 0)
        elif tag in ("rect", "polyline"):
            self.pictures[self._picture] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "svg":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def live(deploy_shared: Deploy) -> Any:
    """A portfolio whose events came in part late and in part twice, scored while the watchdog adds missed ones."""
    deployment = deploy_shared()
    deployment.publish_records(arrivals_of(open_dataset("simulator", users=80, months=8, seed=23), 0.05, 0.05, seed=23))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
        deployment.wait_until_scored(worker)
    return deployment


def test_of_an_alert_it_says_what_the_alert_says(live: Any, tmp_path: Path) -> None:
    alerts = [msgspec.json.decode(record.value, type=Alert) for record in live.records(live.topics.alerts)]
    raised = [alert for alert in alerts if alert.kind != "cleared"]
    alert = max(raised, key=lambda alert: alert.score)
    page, report = tmp_path / "why.html", tmp_path / "why.json"
    run = explain(
        live, "--user", alert.user_id, "--sequence", str(alert.sequence), "--out", str(page), "--report", str(report)
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(report.read_text())
    assert (figures["user"], figures["model"], figures["events"]) == (alert.user_id, alert.model, alert.sequence)
    assert figures["score"] == pytest.approx(alert.score, abs=EXACT)

    history = read_events(live.kafka, live.topics, live.settings.application_id, alert.user_id)[: alert.sequence]
    (source,) = [
        record.value
        for record in live.records(alert.source_topic)
        if (record.partition, record.offset) == (alert.source_partition, alert.source_offset)
    ]
    assert encode_event(history[-1]) == source, "the event that raised the alert is the last that is explained"
    assert figures["recent"][0]["event_id"] == history[-1].event_id

    named = [reason for reason in alert.reasons if reason.code in figures["causes"]]
    assert named, f"{[reason.code for reason in alert.reasons]} and none of them among {list(figures['causes'])}"
    top = max(named, key=lambda reason: reason.contribution)
    assert figures["causes"][top.code] < figures["score"], "without the first reason the score is lower"

    found = figures["undoing"]
    assert found is not None, "an alert by score is above MEDIUM"
    rest = [event for event in history if event.event_id not in found["events"]]
    assert len(rest) == len(history) - len(found["events"]) < len(history)
    assert score_of(live, rest) == pytest.approx(found["score"], abs=EXACT)
    assert found["suffices"] == (found["score"] < figures["threshold"])
    for each in figures["recent"][:3]:
        without = [event for event in history if event.event_id != each["event_id"]]
        assert score_of(live, without) == pytest.approx(each["score_without"], abs=EXACT)

    seen = Page(page.read_text())
    assert alert.user_id in seen.text
    assert f"{figures['score']:.1%}" in seen.text
    assert all(CATALOGUE[code].counterfactual.replace("`", "") in seen.text for code in figures["causes"])
    assert seen.pictures["score over time"] == 1, "one line"
    assert seen.pictures["attention over time"] > 5, "cells of the heat map"
    assert seen.fetched == []
    assert f"{figures['score']:.4f}" in run.stdout
    assert top.code in run.stdout


def test_without_a_moment_it_explains_the_latest_score(live: Any, tmp_path: Path) -> None:
    scores = [msgspec.json.decode(record.value, type=Score) for record in live.records(live.topics.scores)]
    latest = max((score for score in scores if score.user_id == "u0000042"), key=lambda score: score.sequence)
    report = tmp_path / "why.json"
    run = explain(live, "--user", "u0000042", "--report", str(report))
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(report.read_text())
    assert figures["events"] == latest.sequence
    assert figures["score"] == pytest.approx(latest.score, abs=EXACT)
    unknown = explain(live, "--user", "nobody")
    assert unknown.returncode == 1
    assert "'nobody'" in unknown.stderr
    assert "--topic-prefix" in unknown.stderr
