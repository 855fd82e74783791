"""Problems of every source: who is where, and that nothing of the test part shapes what candidates are given."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.types import Activity, Event, Transaction
from model.architectures import Architecture
from model.comparison.folds import FOLDS, SIX_MONTHS_DAYS, pose, stratified_folds
from model.comparison.served import Served
from model.datasets.dataset import DatasetError, Outcome
from model.datasets.sources import open_dataset
from model.histories.labels import NEVER_MS

SMALL = Architecture(hidden=(8, 8, 4), profile_hidden=8, profile_embedding=4, fusion=8)
START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)


class Labelled:
    """Clients with three events and a label; whether they are bad follows from their number."""

    name = "labelled"
    headline_horizon_days = 30

    def __init__(self, users: int = 200, every: int = 5, name: str = "labelled") -> None:
        self.users, self.every, self.name = users, every, name

    def events(self) -> Iterator[Event]:
        for day in (0, 30, 60):
            for user in range(self.users):
                moment = START + dt.timedelta(days=day, seconds=user)
                yield Transaction(
                    event_id=f"{user}-{day}",
                    user_id=f"u{user:03d}",
                    occurred_at=moment,
                    amount=-1.0,
                    category="late" if day == 60 else "early",
                )

    def outcomes(self) -> dict[str, Outcome]:
        until_ms = int((START + dt.timedelta(days=400)).timestamp() * 1000)
        default_date_ms = int((START + dt.timedelta(days=80)).timestamp() * 1000)
        return {
            f"u{user:03d}": Outcome(
                f"u{user:03d}", None if user % self.every else default_date_ms, until_ms, int(user % self.every == 0)
            )
            for user in range(self.users)
        }

    def held_out(self, user_id: str) -> bool:
        return int(user_id[1:]) % 5 == 1


def test_folds_are_balanced_and_do_not_depend_on_the_order_of_users() -> None:
    ids = [f"u{number}" for number in range(103)]
    bad = np.arange(103) % 4 == 0
    fold = stratified_folds(ids, bad, seed=9)
    for stratum in (bad, ~bad):
        counts = np.bincount(fold[stratum], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    shuffled = np.random.default_rng(0).permutation(103)
    again = stratified_folds([ids[user] for user in shuffled], bad[shuffled], seed=9)
    assert np.array_equal(again, fold[shuffled])
    assert not np.array_equal(stratified_folds(ids, bad, seed=10), fold)


def test_by_client_everyone_is_judged_once_and_the_label_is_in_every_part(bars: Any) -> None:
    (setting,) = pose(Labelled(), 1, bars)
    assert len(setting.problems) == FOLDS
    tested = np.concatenate([problem.parts.test.users for problem in setting.problems])
    assert np.array_equal(np.sort(tested), np.arange(200))
    for problem in setting.problems:
        parts = (problem.parts.train, problem.parts.validation, problem.parts.test)
        assert sum(len(part.users) for part in parts) == len(np.unique(np.concatenate([p.users for p in parts]))) == 200
        assert [int((problem.labels[part.users] > 0).sum()) for part in parts] == [28, 4, 8]
        assert problem.task == "label"
    assert len(pose(Labelled(), 1, bars, folds=2)[0].problems) == 2


def test_vocabularies_are_of_the_training_part_alone(bars: Any) -> None:
    (setting,) = pose(Labelled(name="simulator"), 1, bars)
    (problem,) = setting.problems
    assert problem.parts.by == "time"
    # The second category comes after the first half of the period only.
    assert set(problem.sequences.vocabularies["transactions"]["category"]) == {"early"}
    (by_client,) = pose(Labelled(), 1, bars)
    assert set(by_client.problems[0].sequences.vocabularies["transactions"]["category"]) == {"early", "late"}


def test_too_few_defaults_are_said(bars: Any) -> None:
    with pytest.raises(DatasetError, match="shows 4 defaults among 20 users"):
        pose(Labelled(users=20), 1, bars)


class WithoutLabels(Labelled):
    """The same clients by activity alone, where only the default is known."""

    def events(self) -> Iterator[Event]:
        for event in super().events():
            yield Activity(
                event_id=event.event_id, user_id=event.user_id, occurred_at=event.occurred_at, kind="session"
            )

    def outcomes(self) -> dict[str, Outcome]:
        found = super().outcomes().items()
        return {user: Outcome(user, outcome.default_date_ms, outcome.observation_end_ms) for user, outcome in found}


def test_without_labels_the_question_is_the_hazard(bars: Any) -> None:
    (setting,) = pose(WithoutLabels(), 1, bars)
    assert {problem.task for problem in setting.problems} == {"hazard"}


def _deal(path: Path, first_number: int, loans: int, missed: int) -> None:
    """Loans of 24 months; the first `missed` of them stop paying, each in a month of its own."""
    months = 24
    columns = [f"{name}{month}" for month in range(1, months + 1) for name in ("BAL", "PMT")]
    header = (
        "assetNumber,reportingPeriodBeginningDate,originalLoanAmount,originalLoanTerm,originalInterestRatePercentage,"
        "vehicleNewUsedCode,vehicleValueAmount,obligorCreditScore,paymentToIncomePercentage,obligorGeographicLocation,"
        "reportingPeriodBeginningLoanBalanceAmount,reportingPeriodScheduledPaymentAmount,initialLoanAge"
    )
    lines = [",".join([header, *columns])]
    for loan in range(loans):
        row = f"{first_number + loan},01-01-2018,9000,60,0.05,1,9500,700,0.1,TX,9000,200,3".split(",")
        for month in range(months):
            stopped = loan < missed and month >= 4 + loan % 16
            row += [str(9000 - 100 * month), "0" if stopped else "200"]
        lines.append(",".join(row))
    path.write_text("\n".join(lines) + "\n")


def test_auto_loans_go_from_early_to_late_and_from_deal_to_deal(tmp_path: Path, bars: Any) -> None:
    _deal(tmp_path / "one_2018.csv", 1_000, 60, 20)
    _deal(tmp_path / "two_2018.csv", 2_000, 60, 20)
    dataset = open_dataset("auto-loans", tmp_path)
    within, across = pose(dataset, 1, bars)
    assert [problem.name for problem in across.problems] == ["one_2018 to two_2018", "two_2018 to one_2018"]
    deals = dataset.deals()
    for problem in (*within.problems, *across.problems):
        sequences, parts = problem.sequences, problem.parts
        assert problem.headline_days == SIX_MONTHS_DAYS
        rows = problem.example_rows(parts.test)
        assert len(rows)
        assert (sequences.days_past_due[rows] <= 0).all()
        trainer = Served("small", SMALL, epochs=1).trainer(problem)
        assert np.array_equal(trainer.judged, sequences.days_past_due <= 0)
        assert not trainer.targets.observed_share[~trainer.judged].any()
        assert sequences.times_ms[rows].min() >= parts.from_ms
        assert sequences.times_ms[problem.example_rows(parts.train)].max() < parts.from_ms
        known = parts.train.truth.default_date_ms
        assert known[known < NEVER_MS].max() < parts.from_ms
    for problem, (one, other) in zip(across.problems, (("one", "two"), ("two", "one")), strict=True):
        deal_of = np.array([deals[user_id][:3] for user_id in problem.sequences.user_ids])
        assert set(deal_of[problem.parts.test.users]) == {other}
        assert set(deal_of[problem.parts.train.users]) | set(deal_of[problem.parts.validation.users]) == {one}


def test_one_deal_alone_has_no_other_to_be_judged_on(tmp_path: Path, bars: Any) -> None:
    _deal(tmp_path / "one_2018.csv", 1_000, 60, 20)
    assert [setting.name for setting in pose(open_dataset("auto-loans", tmp_path), 1, bars, folds=1)] == ["out of time"]
