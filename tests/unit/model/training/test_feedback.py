"""Feedback of the desk in training: weights, and that a model with them is kept where they say something, and only
there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.feedback import Feedback
from events.types import Activity, Event, Repayment
from model.bundle import Bundle
from model.datasets.dataset import Outcome
from model.evaluation.card import CARD_FILE
from model.evaluation.evaluate import load_sequences, progress_bars
from model.histories.labels import truth_of
from model.histories.splits import split
from model.training.feedback import FALSE_ALARM_WEIGHT, Verdict, verdict, weights_of
from model.training.preparation import TrainingError, labels_of, prepare
from model.training.train import _with_feedback, train
from model.training.trainer import Schedule, Trainer
from tests.unit.model.training.test_train import SMALL

USERS, MONTHS = 400, 24
START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
LONG_AFTER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
MONTH = dt.timedelta(days=30)


class Portfolio:
    """Borrowers who pay each month. At some month half begin to miss payments, of whom nine in ten default 75 days
    later; the others ask for credit elsewhere then, of whom four in ten do."""

    name = "portfolio"
    headline_horizon_days = 90
    split_by = "time"

    def __init__(self) -> None:
        chance = np.random.default_rng(3)
        self.onset = {f"user-{number}": int(chance.integers(2, MONTHS - 2)) for number in range(USERS)}
        self.misses = {user for number, user in enumerate(self.onset) if number % 2}
        self.defaults = {user for user in self.onset if chance.random() < (0.9 if user in self.misses else 0.4)}

    def onset_at(self, user: str) -> dt.datetime:
        return START + self.onset[user] * MONTH

    def events(self) -> Iterator[Event]:
        for number, user in enumerate(self.onset):
            for month in range(MONTHS):
                at = START + month * MONTH + dt.timedelta(hours=number % 24)
                begun = 0 <= month - self.onset[user] < 3
                missed = begun and user in self.misses
                common: Any = {"event_id": f"{user}-{month}", "user_id": user, "occurred_at": at, "amount_due": 100.0}
                if missed:
                    yield Repayment(kind="missed", days_past_due=30.0 * (month - self.onset[user]), **common)
                else:
                    yield Repayment(kind="paid", days_past_due=0.0, amount_paid=100.0, **common)
                if begun and not missed:
                    asked = {"event_id": f"{user}-{month}-a", "user_id": user, "occurred_at": at + MONTH / 30}
                    yield Activity(kind="inquiry", count=3.0, **asked)

    def outcomes(self) -> dict[str, Outcome]:
        end_ms = round((START + MONTHS * MONTH).timestamp() * 1000)
        found = {}
        for user in self.onset:
            at_ms = round((self.onset_at(user) + dt.timedelta(days=75)).timestamp() * 1000)
            found[user] = Outcome(user, at_ms if user in self.defaults and at_ms < end_ms else None, end_ms)
        return found

    def held_out(self, user_id: str) -> bool:
        return user_id.endswith("0")


class Altered:
    """A data set with other outcomes, split by time."""

    split_by = "time"

    def __init__(self, dataset: Portfolio, outcomes: dict[str, Outcome]) -> None:
        self._dataset, self._outcomes = dataset, outcomes
        self.name, self.headline_horizon_days = dataset.name, dataset.headline_horizon_days

    def events(self) -> Iterator[Event]:
        return self._dataset.events()

    def outcomes(self) -> dict[str, Outcome]:
        return self._outcomes

    def held_out(self, user_id: str) -> bool:
        return self._dataset.held_out(user_id)


def feedback(user: str, **fields: Any) -> Feedback:
    return Feedback(
        **{"alert_id": f"a-{user}", "user_id": user, "opened_at": LONG_AGO, "known_at": LONG_AFTER, **fields}
    )


@pytest.fixture(scope="module")
def dataset() -> Portfolio:
    return Portfolio()


def trainer_of(dataset: Any, outcomes: dict[str, Outcome], seed: int = 1) -> Trainer:
    torch.manual_seed(seed)
    with progress_bars(False) as bars:
        provisional = load_sequences(dataset, bars)
    parts = split(provisional, dataset, truth_of(provisional, outcomes))
    model, sequences = prepare(provisional, parts, SMALL, ())
    schedule = Schedule(epochs=8, batch_users=32, learning_rate=1e-2, compare_by="last")
    return Trainer(model, sequences, parts, labels_of(sequences, outcomes), schedule, seed, 90)


def decided(dataset: Portfolio, outcomes: dict[str, Outcome], found: list[Feedback]) -> dict[str, Any]:
    """What training comes to, by one model without and one with feedback."""
    altered = Altered(dataset, outcomes)
    plain = trainer_of(altered, outcomes)
    with progress_bars(False) as bars:
        history = plain.fit(bars)
        told, kept, _ = _with_feedback(
            lambda seed: trainer_of(altered, outcomes, seed), (plain, history), found, 1, bars
        )
    assert (kept is not plain) == told["used"]
    return told


def averted(dataset: Portfolio) -> tuple[dict[str, Outcome], list[Feedback]]:
    """In the first half of the months, collectors call four in five of those who miss payments, and all keep what they
    promise then. Later they call nobody."""
    outcomes = dataset.outcomes()
    called = [
        user for number, user in enumerate(sorted(dataset.misses)) if dataset.onset[user] < MONTHS // 2 and number % 5
    ]
    changed = outcomes | {user: replace(outcomes[user], default_date_ms=None) for user in called}
    return changed, [feedback(user, promises_kept=1) for user in called]


def test_feedback_that_says_something_is_used(dataset: Portfolio) -> None:
    outcomes, found = averted(dataset)
    assert len(found) > 10
    told = decided(dataset, outcomes, found)
    assert told["treated"] == len(found)
    assert told["used"]
    assert told["auc_with"] > told["auc_without"]
    assert 0 < told["gain_low"] <= told["gain"] <= told["gain_high"]


def test_feedback_that_is_noise_is_not_used(dataset: Portfolio) -> None:
    outcomes = dataset.outcomes()
    chance = np.random.default_rng(7)
    found = [
        feedback(user, closed_as=str(chance.choice(["false_alarm", "cured", "handed_over"])))
        for user in sorted(outcomes)
        if chance.random() < 0.4
    ]
    told = decided(dataset, outcomes, found)
    assert told["weighted_events"] > 500
    assert not told["used"]
    assert told["gain_low"] is not None
    assert told["gain_low"] <= 0


def test_weights_reach_from_a_horizon_before_the_alert_to_its_end(dataset: Portfolio) -> None:
    with progress_bars(False) as bars:
        sequences = load_sequences(dataset, bars)
    users = sequences.user_ids
    first, after = sequences.merged_starts[3], sequences.merged_starts[4]
    times = sequences.times_ms[first:after]
    opened_ms, known_ms = int(times[len(times) // 2]), int(times[3 * len(times) // 4])
    at = [dt.datetime.fromtimestamp(ms / 1000, dt.UTC) for ms in (opened_ms, known_ms)]
    made = weights_of(
        sequences,
        [
            feedback(users[3], closed_as="false_alarm", opened_at=at[0], known_at=at[1]),
            feedback(users[5], closed_as="paid"),
            feedback(users[5], closed_as="false_alarm"),
            feedback(users[6], closed_as="written_off", promises_broken=1),
            feedback("nobody", closed_as="paid"),
        ],
        headline_days=90,
    )
    inside = (times >= opened_ms - 90 * DAY_MS) & (times <= known_ms)
    assert 0 < inside.sum() < len(times)
    assert made.weights[first:after].tolist() == np.where(inside, FALSE_ALARM_WEIGHT, 1).tolist()
    own = slice(sequences.merged_starts[5], sequences.merged_starts[6])
    assert set(made.weights[own].tolist()) == {0.0}
    assert (made.weights[sequences.merged_starts[6] :] == 1).all()
    assert made.described() == {
        "records": 5, "unknown_users": 1, "false_alarms": 2, "treated": 2,
        "weighted_events": int(inside.sum() + (own.stop - own.start)),
    }  # fmt: skip


@pytest.mark.parametrize(("low", "wins"), [(0.01, True), (0.0, False), (-0.01, False), (None, False)])
def test_a_gain_must_be_more_than_chance(low: float | None, wins: bool) -> None:
    assert Verdict(0.7, 0.8, 0.1, low, 0.2, 100).wins is wins


def test_treated_events_judge_no_model(dataset: Portfolio) -> None:
    """The better model is the one whose scores are the outcomes, and it is judged where nobody has acted."""
    outcomes = dataset.outcomes()
    trainer = trainer_of(dataset, outcomes)
    part, rows = trainer.parts.validation, trainer.logits(trainer.parts.validation)[0]
    weights = np.ones(len(trainer.sequences.times_ms), dtype=np.float32)
    oracle = np.array([outcomes[trainer.sequences.user_ids[user]].default_date_ms is not None for user in
                       trainer.sequences.user_of_event[rows]], dtype=np.float64)  # fmt: skip
    noise = np.random.default_rng(1).random(len(rows))

    def judged(without: NDArray[Any], with_feedback: NDArray[Any], weights: NDArray[np.float32]) -> Verdict:
        return verdict(
            trainer.sequences, part, rows, (without, with_feedback), weights, trainer.horizons_days, trainer.headline
        )

    found = judged(noise, oracle, weights)
    assert found.wins
    assert not judged(oracle, noise, weights).wins
    weights[rows] = 0
    assert judged(noise, oracle, weights) == Verdict(None, None, None, None, None, 0)
    assert found.judged_events > 0


def test_both_figures_are_in_manifest_and_card(dataset: Portfolio, tmp_path: Path) -> None:
    outcomes = dataset.outcomes()
    found = [feedback(user, closed_as="false_alarm") for user in sorted(outcomes)[:20]]
    metrics = train(dataset, tmp_path / "bundle", epochs=1, architecture=SMALL, feedback=found, progress=False)
    bundle = Bundle.load(tmp_path / "bundle")
    told = bundle.manifest.metrics["feedback"]
    assert told == metrics["feedback"]
    assert told["false_alarms"] == 20
    card = (bundle.path / CARD_FILE).read_text()
    assert f"AUC {told['auc_with']:.4f} with and {told['auc_without']:.4f} without" in card
    assert f"The model {'with' if told['used'] else 'without'} feedback was kept." in card


def test_a_source_without_later_months_takes_no_feedback(dataset: Portfolio, tmp_path: Path) -> None:
    by_client = Altered(dataset, dataset.outcomes())
    by_client.split_by = "client"
    with pytest.raises(TrainingError, match="split by client"):
        train(by_client, tmp_path / "bundle", epochs=1, architecture=SMALL, feedback=[], progress=False)
