"""A contender that computes something else measures nothing: both other uses of our model give the worker's scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.contenders.recompute import Recomputation
from bench.contenders.task import PeerScore, Task, score_bytes
from bench.single_step import SingleStep
from events.types import KINDS, Event, encode_event
from model.bundle import Bundle
from stream.kafka.record import RawRecord
from stream.scoring.intake import Intake, Taken
from stream.scoring.scorer import Scorer
from stream.settings import Settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab


@pytest.fixture(scope="module")
def worker_scores(bundle: Bundle, simulated: Sequence[Event]) -> list[list[float]]:
    """What the worker publishes for the events, horizon by horizon."""
    settings = Settings()
    slab = Slab(blank_row(row_dtype(bundle.state_width), bundle.fingerprint))
    scorer = Scorer(bundle, settings.alert_policy(bundle.thresholds), slab, settings.topics)
    taken = []
    for offset, event in enumerate(simulated):
        record = RawRecord(event.KIND, 0, offset, 0, event.user_id.encode(), encode_event(event))
        outcome = Intake(event.KIND).take(record, 1 << 53)
        assert isinstance(outcome, Taken)
        taken.append(outcome)
    found: dict[str, list[float]] = {}
    for _, value in scorer.score(taken).scores[0]:
        score = msgspec.json.decode(value)
        found[score["event_id"]] = list(score["horizons"].values())
    return [found[event.event_id] for event in simulated]


def test_every_kind_is_there(simulated: Sequence[Event]) -> None:
    assert {event.KIND for event in simulated} == set(KINDS)


def test_one_event_at_a_time(bundle_path: Path, simulated: Sequence[Event], worker_scores: list[list[float]]) -> None:
    model = SingleStep(bundle_path)
    states: dict[str, bytes] = {}
    scores = []
    for event in simulated:
        horizons, states[event.user_id] = model.take(event, states.get(event.user_id))
        scores.append(horizons)
    np.testing.assert_allclose(scores, worker_scores, atol=2e-6)


@pytest.mark.parametrize("batch", [1, 37, 1_000])
def test_the_whole_history_again(
    bundle: Bundle, simulated: Sequence[Event], worker_scores: list[list[float]], batch: int
) -> None:
    events = simulated[:150] if batch == 1 else simulated
    model = Recomputation(bundle)
    pieces = [model.score(events[start : start + batch]) for start in range(0, len(events), batch)]
    np.testing.assert_allclose(np.concatenate(pieces), worker_scores[: len(events)], atol=2e-6)


def test_a_task_survives_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(
        bootstrap_servers="a:1,b:2",
        inputs=[f"x.{kind}" for kind in KINDS],
        output="x.peer",
        partitions=4,
        group="g",
        bundle="b",
        window_model=None,
        folder="f",
    )
    monkeypatch.setattr("sys.argv", ["contender", msgspec.json.encode(task).decode()])
    assert Task.from_command_line() == task
    assert task.kind_of["x.activity"] == "activity"


def test_a_task_decodes_each_topic_as_its_kind(simulated: Sequence[Event]) -> None:
    nothing = dict.fromkeys(("bootstrap_servers", "output", "group", "bundle", "folder"), "")
    task = Task(inputs=list(KINDS), partitions=1, window_model=None, **nothing)
    for event in simulated[:50]:
        assert task.decoders[event.KIND](encode_event(event)) == event


def test_a_score_names_its_cause(simulated: Sequence[Event]) -> None:
    event = simulated[0]
    score = msgspec.json.decode(score_bytes(event, "t", 3, 7, [0.1, 0.2, 0.3, 0.4]), type=PeerScore)
    assert (score.score_id, score.user_id, score.score) == ("t:3:7", event.user_id, 0.3)
