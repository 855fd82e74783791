"""A small portfolio whose bad borrowers show it: later and later payments, a fuller line, cash. Split by client."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from events.types import KINDS, Activity, Event, Profile, Repayment, Transaction
from model.comparison.problem import Problem, Task
from model.datasets.dataset import Outcome
from model.histories.labels import truth_of
from model.histories.sequences import build_sequences, learn_vocabularies
from model.histories.splits import split_by_client

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
MONTHS = 5
DEFAULT_AFTER_DAYS = 185


@dataclass
class Portfolio:
    """A `Dataset` of `users` borrowers; every third one is bad and has the default on day `DEFAULT_AFTER_DAYS`."""

    users: int = 90
    name: str = "portfolio"
    headline_horizon_days: int = 60

    def events(self) -> Iterator[Event]:
        for user in range(self.users):
            yield from borrower(user)

    def outcomes(self) -> dict[str, Outcome]:
        end_ms = round((START + dt.timedelta(days=400)).timestamp() * 1000)
        default_date_ms = round((START + dt.timedelta(days=DEFAULT_AFTER_DAYS)).timestamp() * 1000)
        return {
            f"user-{user}": Outcome(
                f"user-{user}", default_date_ms if is_bad(user) else None, end_ms, int(is_bad(user))
            )
            for user in range(self.users)
        }

    def held_out(self, user_id: str) -> bool:
        return int(user_id.split("-")[1]) % 5 == 4


def is_bad(user: int) -> bool:
    return user % 3 == 0


def borrower(user: int) -> list[Event]:
    random = np.random.default_rng(user)
    user_id, bad = f"user-{user}", is_bad(user)
    happened: list[Event] = [
        Profile(
            event_id=f"{user}-p", user_id=user_id, occurred_at=START, income=float(random.normal(2_000, 300)),
            origination_pd=float(random.uniform(0.02, 0.2)), region=f"region_{user % 4}",
        )
    ]  # fmt: skip
    for month in range(MONTHS):
        due = START + dt.timedelta(days=5 + 30 * month + int(random.integers(0, 3)))
        late = float(random.normal(9.0 * month if bad else 1.0, 3))
        happened.append(
            Repayment(
                event_id=f"{user}-r{month}", user_id=user_id, occurred_at=due + dt.timedelta(days=max(late, 0.0)),
                kind="missed" if late > 20 else "paid", amount_due=100.0, amount_paid=None if late > 20 else 100.0,
                days_past_due=round(late), balance=1_000.0 - 80 * month, due_date=due.date(),
            )
        )  # fmt: skip
        for number in range(4):
            moment = START + dt.timedelta(days=30 * month + float(random.uniform(0, 30)))
            used = float(np.clip(random.normal(0.3 + (0.12 * month if bad else 0), 0.1), 0, 1.1))
            happened.append(
                Transaction(
                    event_id=f"{user}-t{month}-{number}", user_id=user_id, occurred_at=moment,
                    amount=float(-random.lognormal(4, 0.5)), category="cash" if bad and number < 2 else "groceries",
                    channel=str(random.choice(["card", "atm"])), balance_after=1_000 * used, credit_limit=1_000.0,
                )
            )  # fmt: skip
        happened.append(
            Activity(
                event_id=f"{user}-a{month}", user_id=user_id, occurred_at=START + dt.timedelta(days=30 * month + 17),
                kind="inquiry" if bad and month > 2 else "session", count=1.0, duration_s=float(random.uniform(10, 99)),
            )
        )  # fmt: skip
    return sorted(happened, key=lambda event: event.occurred_at)


def problem_of(dataset: Portfolio, task: Task = "hazard") -> Problem:
    provisional = build_sequences(dataset.events())
    outcomes = dataset.outcomes()
    truth = truth_of(provisional, outcomes)
    held_out = np.array([dataset.held_out(user_id) for user_id in provisional.user_ids])
    parts = split_by_client(provisional, held_out, truth)
    counts = np.zeros(provisional.users, dtype=np.int64)
    counts[parts.train.users] = parts.train.counts
    rows = {kind: provisional.rows_of(kind, counts) for kind in KINDS}
    return Problem(
        name=dataset.name,
        sequences=provisional.recoded(learn_vocabularies(provisional, rows, least_count=2)),
        parts=parts,
        truth=truth,
        labels=np.array([int(is_bad(int(user_id.split("-")[1]))) for user_id in provisional.user_ids], dtype=np.int8),
        outcomes=outcomes,
        headline_days=dataset.headline_horizon_days,
        horizons_days=(30, 60, 90, 180),
        task=task,
        seed=3,
        dataset=dataset,
    )


@pytest.fixture(scope="session")
def problem() -> Problem:
    return problem_of(Portfolio())


@pytest.fixture(scope="session")
def label_problem() -> Problem:
    return problem_of(Portfolio(), "label")


@pytest.fixture(scope="session")
def cut_short() -> Callable[[Problem, int], Problem]:
    """A problem as it stood before the last `events` events of every user: nothing later has happened yet."""

    def cut(problem: Problem, events: int) -> Problem:
        earlier = [event for user in range(problem.sequences.users) for event in borrower(user)[:-events]]
        sequences = build_sequences(earlier, problem.sequences.vocabularies)
        return replace(problem, sequences=sequences)

    return cut
