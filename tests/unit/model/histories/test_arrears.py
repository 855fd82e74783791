"""Where a source asks its question only while nothing is overdue, training and its figures keep to that."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.types import Event, Repayment, Transaction
from model.architectures import Architecture
from model.bundle import Bundle
from model.datasets.dataset import Dataset, Outcome
from model.evaluation.card import CARD_FILE, card_figures
from model.evaluation.evaluate import evaluate, progress_bars
from model.evaluation.playback import merged_rows
from model.evaluation.scored_source import score_source
from model.histories.arrears import is_serious, judged_events
from model.histories.labels import within_horizons
from model.histories.sequences import build_sequences
from model.statistics.metrics import roc_auc
from model.training.material import Material, read
from model.training.preparation import labels_of, prepare
from model.training.train import _test_metrics, _trainer, _write_companions, device_of
from model.training.trainer import Schedule, Trainer

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)


class Loans:
    """Every third loan falls behind from its third month on and has the default in the sixth."""

    name = "loans"
    headline_horizon_days = 90

    def __init__(self, only_while_current: bool) -> None:
        self.only_while_current = only_while_current

    def events(self) -> Iterator[Event]:
        for month in range(7):
            for loan in range(90):
                overdue = 30.0 * max(month - 2, 0) if loan % 3 == 0 else 0.0
                yield Repayment(
                    event_id=f"{loan}-{month}", user_id=f"u{loan}", kind="missed" if overdue else "paid",
                    occurred_at=START + dt.timedelta(days=30 * month, seconds=loan), amount_due=100.0,
                    amount_paid=None if overdue else 90.0 + loan % 7, days_past_due=overdue, balance=1_000.0,
                )  # fmt: skip

    def outcomes(self) -> dict[str, Outcome]:
        default_date_ms, until_ms = (int((START + dt.timedelta(days=day)).timestamp() * 1000) for day in (150, 500))
        return {f"u{n}": Outcome(f"u{n}", None if n % 3 else default_date_ms, until_ms) for n in range(90)}

    def held_out(self, user_id: str) -> bool:
        return int(user_id[1:]) % 10 < 2


@pytest.fixture(scope="module")
def material() -> Material:
    with progress_bars(False) as bars:
        return read(Loans(True), bars)


@pytest.fixture
def make(material: Material, small: Architecture) -> Callable[[bool], Trainer]:
    def made(only_while_current: bool) -> Trainer:
        model, sequences = prepare(material.sequences, material.parts, small, ())
        judged = judged_events(Loans(only_while_current), sequences)
        labels = labels_of(sequences, material.outcomes)
        return Trainer(model, sequences, material.parts, labels, Schedule(epochs=1), 1, 90, judged=judged)

    return made


def test_who_does_not_say_so_is_asked_at_every_event(material: Material, sessions: Callable[..., Dataset]) -> None:
    found = judged_events(Loans(True), material.sequences)
    assert found is not None
    np.testing.assert_array_equal(found, material.sequences.days_past_due <= 0)
    assert 0 < found.sum() < len(found)
    at_risk = judged_events(Loans(False), material.sequences)
    np.testing.assert_array_equal(at_risk, material.sequences.days_past_due < 60)
    assert found.sum() < at_risk.sum() < len(at_risk)
    with progress_bars(False) as bars:
        assert judged_events(sessions(), read(sessions(), bars).sequences) is None


class Labelled(Loans):
    """With a label for every client."""

    def outcomes(self) -> dict[str, Outcome]:
        return {user_id: replace(outcome, label=1) for user_id, outcome in super().outcomes().items()}


def test_a_source_with_labels_asks_about_every_client(material: Material) -> None:
    assert judged_events(Labelled(False), material.sequences) is None
    np.testing.assert_array_equal(
        judged_events(Labelled(True), material.sequences), judged_events(Loans(True), material.sequences)
    )


def test_serious_is_the_worst_contract_by_the_rule_and_ages() -> None:
    def event(day: int, kind: Any, contract: str | None, **more: Any) -> Event:
        at = START + dt.timedelta(days=day)
        return Repayment(event_id=f"{day}{kind}", user_id="u", occurred_at=at, kind=kind, contract_id=contract, **more)

    spending = Transaction(event_id="t", user_id="u", occurred_at=START + dt.timedelta(days=75), amount=-5.0)
    history = [
        Transaction(event_id="s", user_id="u", occurred_at=START, amount=-5.0),
        event(1, "due", "large", days_past_due=0.0, instalment_no=1, due_date=START.date() + dt.timedelta(days=10)),
        event(30, "paid", "small", days_past_due=0.0),
        event(70, "paid", "small", days_past_due=0.0),
        spending,
        event(80, "paid", "large", instalment_no=1),
        event(90, "written_off", "small"),
    ]
    sequences = build_sequences(history)
    np.testing.assert_array_equal(sequences.days_past_due, [np.nan, 0, 20, 60, 65, 0, 0])
    assert is_serious(sequences).tolist() == [False, False, False, True, True, False, True]


def test_the_loss_counts_judged_events_alone(make: Callable[[bool], Trainer]) -> None:
    every, asked = make(False), make(True)
    judged = asked.judged
    assert judged is not None
    assert every.targets.observed_share[~judged].any()
    assert every.targets.happened[~judged].any()
    assert not asked.targets.observed_share[~judged].any()
    assert not asked.targets.happened[~judged].any()
    np.testing.assert_array_equal(asked.targets.observed_share[judged], every.targets.observed_share[judged])
    np.testing.assert_array_equal(asked.targets.happened[judged], every.targets.happened[judged])


def test_stopping_calibration_and_thresholds_see_judged_events_alone(
    make: Callable[[bool], Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, every = make(True), make(False)
    assert trainer.judged is not None
    part = trainer.parts.validation
    rows = merged_rows(trainer.sequences, part.users)
    hazards = np.random.default_rng(2).normal(-2, 1, (len(rows), len(trainer.horizons_days))).astype(np.float32)

    def figures(of: Trainer, other: np.ndarray) -> tuple[object, object, list[float]]:
        """With `other` as the logits of events that are not judged."""
        logits = np.where(trainer.judged[rows][:, None], hazards, other)
        monkeypatch.setattr(of, "logits", lambda _: (rows, logits))
        return of._validation(part), of.calibrate(), of.model.fusion.slope.tolist()

    low, high = np.full_like(hazards, -6), np.full_like(hazards, 6)
    assert figures(trainer, low) == figures(trainer, high)
    assert figures(every, low) != figures(every, high)
    truth = part.truth
    kept = rows[trainer.judged[rows]]
    happened, known = within_horizons(
        trainer.sequences.times_ms[kept], trainer.sequences.user_of_event[kept], truth, trainer.horizons_days
    )
    chance = 1 - np.cumprod(1 / (1 + np.exp(hazards[trainer.judged[rows]])), axis=1)
    at, usable = trainer.headline, known[:, trainer.headline]
    expected = roc_auc(happened[usable, at], chance[usable, at])
    assert figures(trainer, low)[0]["validation_auc"] == pytest.approx(expected)


def test_training_and_evaluation_take_the_rule_from_the_data_set(
    material: Material, small: Architecture, random_bundle: Bundle
) -> None:
    current = material.sequences.days_past_due <= 0
    tested = merged_rows(material.sequences, material.parts.test.users)
    at_risk = material.sequences.days_past_due < 60
    for only_while_current, judged in ((True, current), (False, at_risk)):
        dataset = Loans(only_while_current)
        prepared = prepare(material.sequences, material.parts, small, ())
        trainer = _trainer(dataset, material, prepared, Schedule(), 1, device_of("cpu"), fine_tuning=False)
        assert not trainer.targets.observed_share[~judged].any()
        assert trainer.targets.observed_share[judged].any(axis=1).mean() > 0.8
        assert _test_metrics(random_bundle, trainer, material)["events"] == judged[tested].sum()
        assert evaluate(random_bundle, dataset, progress=False)["events"] == judged[tested].sum()


def test_a_card_counts_judged_events_alone(material: Material, random_bundle: Bundle) -> None:
    with progress_bars(False) as bars:
        asked, every = (score_source(random_bundle, Loans(rule), bars) for rule in (True, False))
    panel, overdue = asked.panel(), ~(material.sequences.days_past_due <= 0)
    assert len(panel)
    known = {
        (user, score)
        for user, score in zip(asked.sequences.user_of_event[overdue], asked.headline[overdue], strict=True)
    }
    assert not known & set(zip(panel.users, panel.scores.astype(np.float32), strict=True))
    assert known & set(zip(every.panel().users, every.panel().scores.astype(np.float32), strict=True))
    figures, plain = (card_figures(source, "loans", resamples=5) for source in (asked, every))
    assert "while nothing was overdue" in figures.rows_are
    assert "overdue" not in plain.rows_are
    assert figures.overall.scores == len(panel) < plain.overall.scores
    assert figures.calibration.scores == len(panel)


def test_the_card_that_training_writes_counts_what_it_judged(
    material: Material, random_bundle: Bundle, tmp_path: Path
) -> None:
    bundle = Bundle.load(shutil.copytree(random_bundle.path, tmp_path / "bundle"))
    users, total = material.parts.test.users, {}
    for rule in (True, False):
        _write_companions(bundle, material, judged_events(Loans(rule), material.sequences))
        text = (bundle.path / CARD_FILE).read_text()
        assert ("while nothing was overdue" in text) is rule
        assert ("while no contract was serious" in text) is not rule
        total[rule] = int(next(re.finditer(r"^\| all \| [\d,]+ \| ([\d,]+)", text, re.M))[1].replace(",", ""))
    assert 0 < total[True] < total[False] <= 7 * len(users)
