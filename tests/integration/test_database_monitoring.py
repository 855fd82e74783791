"""What monitoring reads from PostgreSQL is what the same scores say in memory: samples, matured scores, books."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from foreshock import app
from model.bundle import Bundle
from model.evaluation.panel import monthly_panel
from model.histories.labels import NEVER_MS, Truth
from model.outlook.outlook import dispersion
from reports.books import read_books
from reports.drift import DAYS_PAST_DUE, Period, drift_of_database
from reports.monitoring import read_monitored
from reports.outlook import outlook_of_database
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError, DatabaseUnavailable
from stream.database.migration import upgrade
from stream.database.writer import DatabaseWriter
from stream.outputs import Alert, Score
from stream.settings import PRETRAINED_BUNDLE

BUNDLE = Bundle.load(PRETRAINED_BUNDLE)
START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
DAYS = 330
USERS = 120


def some_scores(model: str, seed: int = 1, prefix: str = "user") -> list[Score]:
    """Users with a score every five days or so; some report 60 days past due at some day and stay late."""
    random = np.random.default_rng(seed)
    found = []
    for user in range(USERS):
        level = float(random.beta(1, 8))
        struck = random.exponential(90 / -np.log1p(-level))
        moments = np.sort(random.uniform(0, DAYS, size=60))
        for sequence, day in enumerate(moments, start=1):
            score = float(np.clip(level * random.uniform(0.8, 1.2), 0, 1))
            found.append(
                Score(
                    score_id=f"transactions:0:{user * 1_000 + sequence}",
                    event_id=f"e{user}-{sequence}",
                    user_id=f"{prefix}-{user:03d}",
                    occurred_at=START + dt.timedelta(seconds=round(day * 86_400)),
                    sequence=sequence,
                    score=score,
                    horizons={str(days): score * days / 90 if days < 90 else score for days in BUNDLE.horizons_days},
                    level="HIGH" if score > 0.3 else "LOW",
                    baseline=score,
                    delta=0.0,
                    days_past_due=None if user % 10 == 0 else (75.0 if day > struck else 3.0),
                    source_topic="transactions",
                    source_partition=0,
                    source_offset=user * 1_000 + sequence,
                    model=model,
                )
            )
    return found


def an_alert(day: int, model: str) -> Alert:
    moment = START + dt.timedelta(days=day)
    return Alert(
        transition_id=f"t{day}", alert_id=f"a{day}", user_id="user-001", kind="opened", occurred_at=moment,
        opened_at=moment, level_from="LOW", level_to="HIGH", score=0.5, baseline=0.1, delta=0.4, reference_pd=None,
        days_past_due=3.0, triggers=["level"], reasons=[], weighed_most=[], sequence=day, source_topic="repayments",
        source_partition=0, source_offset=day, policy="p", model=model,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scores() -> list[Score]:
    return some_scores(BUNDLE.fingerprint_hex)


@pytest.fixture
def upgraded(database: DatabaseConnection, scores: list[Score]) -> DatabaseConnection:
    upgrade(database)
    with DatabaseWriter(database) as writer:
        writer.write(scores, [an_alert(day, BUNDLE.fingerprint_hex) for day in (10, 310, 320)])
        writer.write(some_scores("another", seed=2, prefix="they")[: 60 * 20])
    return database


def columns(scores: list[Score]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Times, users, scores and each user's default, as the tables would tell it."""
    times = np.array([round(each.occurred_at.timestamp() * 1000) for each in scores])
    users = np.array([int(each.user_id[5:]) for each in scores])
    late = np.array([(each.days_past_due or 0) >= 60 for each in scores])
    default_date_ms = np.full(USERS, NEVER_MS)
    np.minimum.at(default_date_ms, users[late], times[late])
    return times, users, np.array([each.score for each in scores]), default_date_ms


def test_matured_scores_are_those_that_python_would_choose(upgraded: DatabaseConnection, scores: list[Score]) -> None:
    found = read_monitored(
        upgraded,
        BUNDLE.fingerprint_hex,
        horizon_days=90,
        delinquency_days=60,
        window_days=30,
        reference_days=90,
        months=24,
    )
    times, users, values, default_date_ms = columns(scores)
    until_ms = int(times.max()) + 1
    assert found.until.timestamp() * 1000 == pytest.approx(until_ms)
    order = np.lexsort((times, users))
    truth = Truth(default_date_ms, np.full(USERS, until_ms))
    expected = monthly_panel(times[order], users[order], values[order], truth, 90)
    assert found.matured.months.tolist() == expected.months.tolist()
    assert found.matured.scores.tolist() == pytest.approx(expected.scores.tolist())
    assert found.matured.happened.tolist() == expected.happened.tolist()
    assert found.matured.happened.sum() > 0
    assert len(found.matured.latest(2)) < len(found.matured)


def test_a_window_has_one_score_of_each_user_at_risk(upgraded: DatabaseConnection, scores: list[Score]) -> None:
    found = read_monitored(
        upgraded,
        BUNDLE.fingerprint_hex,
        horizon_days=90,
        delinquency_days=60,
        window_days=30,
        reference_days=60,
        months=6,
    )
    times, users, values, default_date_ms = columns(scores)
    recent = (times > times.max() - 30 * 86_400_000) & (times < default_date_ms[users])
    assert len(found.recent.scores) == len(np.unique(users[recent]))
    assert set(found.recent.scores) <= set(values[recent])
    assert np.isnan(found.recent.days_past_due).any()
    assert np.nanmax(found.recent.days_past_due) < 60
    assert len(found.before.scores) >= len(found.recent.scores)
    assert found.opened == 2


def test_the_drift_of_scores_in_the_tables(upgraded: DatabaseConnection) -> None:
    report = drift_of_database(upgraded, BUNDLE, Period(months=12, from_data=True))
    assert [each.name for each in report.stability] == ["score", DAYS_PAST_DUE]
    assert report.shifted == []
    beside_reference = drift_of_database(upgraded, BUNDLE, Period(months=12))
    assert [each.name for each in beside_reference.shifted] == ["score"], "these scores are none of the model's"
    assert report.calibration.scores > 500
    assert report.alert_rate == pytest.approx(1_000 * 2 / report.stability[0].recent, rel=1e-6)
    past = drift_of_database(upgraded, BUNDLE, Period(until=START + dt.timedelta(days=200)))
    assert past.until == START + dt.timedelta(days=200)
    assert past.calibration.scores < report.calibration.scores


def test_the_book_and_its_past(upgraded: DatabaseConnection, scores: list[Score]) -> None:
    books = read_books(upgraded, BUNDLE.fingerprint_hex, BUNDLE.horizons_days, 60, stale_days=60)
    times, users, _, default_date_ms = columns(scores)
    at_risk = np.flatnonzero(default_date_ms == NEVER_MS)
    assert len(books.now.users) == len(at_risk)
    assert len(books.levels) == len(at_risk)
    past = books.record.due(90, books.now.at_ms)
    assert 6 <= len(past) <= 8 < len(books.record.due(30, books.now.at_ms))
    origin_ms = round((START + dt.timedelta(days=31)).timestamp() * 1000)
    there = np.unique(users[times < origin_ms])
    came = (default_date_ms[there] >= origin_ms) & (default_date_ms[there] < origin_ms + 90 * 86_400_000)
    assert past[0].observed == came.sum()


def test_the_outlook_of_the_tables(upgraded: DatabaseConnection) -> None:
    found = outlook_of_database(upgraded, BUNDLE, 60.0, by_level=True)
    by_segment = {(each.segment, each.horizon_days): each for each in found.outlooks}
    whole = by_segment["all", 90]
    assert whole.expected == pytest.approx(sum(by_segment[level, 90].expected for level in ("LOW", "HIGH")))
    low, high = whole.intervals["95"]
    assert low < whole.expected < high
    assert found.origins[30] >= 9
    assert dispersion([]) is None


def test_commands_read_the_tables(upgraded: DatabaseConnection, tmp_path: Path) -> None:
    page = tmp_path / "drift.html"
    drift = CliRunner().invoke(app, ["drift", "--database-url", upgraded.url, "--out", str(page)])
    assert drift.exit_code == 0, drift.output
    assert "days_past_due" in page.read_text()
    outlook = CliRunner().invoke(app, ["outlook", "--database-url", upgraded.url, "--segment", "level"])
    assert outlook.exit_code == 0, outlook.output
    assert "HIGH" in outlook.output


def test_another_models_tables_say_so(upgraded: DatabaseConnection, database: DatabaseConnection) -> None:
    with pytest.raises(DatabaseError, match=r"no score history of model 0123, but of .*--bundle"):
        read_monitored(
            upgraded, "0123", horizon_days=90, delinquency_days=60, window_days=30, reference_days=90, months=6
        )
    with pytest.raises(DatabaseError, match="no score of model 0123"):
        read_books(database, "0123", (30, 90), 60, 60)
    with pytest.raises(DatabaseUnavailable):
        read_books(DatabaseConnection("postgresql://ann@127.0.0.1:1/d"), "0123", (30, 90), 60, 60)
