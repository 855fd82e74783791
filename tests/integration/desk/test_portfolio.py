"""Figures of the portfolio on a real database: what they count, of which products and days, and what replays said."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine
from starlette.testclient import TestClient

from desk.access.principals import Principal
from desk.cases.actions import Asked, act
from desk.cases.portfolio import AGES_DAYS, figures, latest_opening
from desk.cases.rules import CaseRules
from desk.context import Desk
from stream.case_records import PromisedPayment
from stream.database import replay_runs
from stream.database.connection import DatabaseConnection
from tests.desk_data import DAY, Borrower, portfolio, scores_of, write_portfolio
from tests.integration.desk.conftest import NOON, PASSWORD, SetClock, new_account

LEAD = Principal("eve", "account", "lead")
BERLIN = ZoneInfo("Europe/Berlin")
SERIOUS_DAYS = 30.0
SINCE = NOON - 25 * DAY
BORROWERS = portfolio()


@pytest.fixture(scope="module")
def engine(desk_database: DatabaseConnection) -> Iterator[Engine]:
    write_portfolio(desk_database, BORROWERS, NOON)
    found = desk_database.open_engine("tests", kept=2)
    yield found
    found.dispose()


def alerted(products: frozenset[str] | None) -> list[Borrower]:
    return [one for one in BORROWERS if one.opened_days is not None and (products is None or one.product in products)]


def opened_at(borrower: Borrower) -> dt.datetime:
    assert borrower.opened_days is not None
    return NOON - borrower.opened_days * DAY


def lead_of(borrower: Borrower) -> dt.timedelta | None:
    """From the alert to the first score that is seriously past due."""
    if borrower.days_past_due < SERIOUS_DAYS:
        return None
    return min(one.occurred_at for one in scores_of(borrower, NOON) if one.occurred_at >= opened_at(borrower)) - (
        opened_at(borrower)
    )


@pytest.mark.parametrize("products", [None, {"card"}, {"card", "loan"}, set()], ids=["all", "cards", "both", "none"])
def test_figures_are_of_the_products_that_are_seen(connection: Connection, products: set[str] | None) -> None:
    scope = None if products is None else frozenset(products)
    found = figures(
        connection, replace(LEAD, products=scope), SINCE, NOON, zone="Europe/Berlin", serious_days=SERIOUS_DAYS
    )
    is_open = [one for one in alerted(scope) if one.cleared_days is None]
    assert found.open == len(is_open)
    assert found.open_high == sum(one.levels[-1] == "HIGH" for one in is_open)
    known = [one.score * one.exposure * 0.45 for one in is_open if one.exposure is not None]
    assert found.expected_loss == (pytest.approx(sum(known)) if known else None)
    assert found.without_amount == len(is_open) - len(known)
    bounds = [0.0, *map(float, AGES_DAYS), float("inf")]
    ages = [one.opened_days or 0.0 for one in is_open]
    assert found.ages == tuple(sum(low <= age < high for age in ages) for low, high in itertools.pairwise(bounds))
    recent = [one for one in alerted(scope) if opened_at(one) >= SINCE]
    assert (found.opened, found.touched, found.contacted, found.judged) == (len(recent), 0, 0, 0)
    assert found.cured == sum(one.cleared_days is not None for one in recent), "closed by itself as cured"
    assert (found.usual_wait, found.long_wait) == (None, None)
    leads = [lead for one in recent if (lead := lead_of(one)) is not None]
    assert found.defaults == len(leads)
    assert found.lead == (statistics.median(leads) if leads else None)
    assert found.days[0] == SINCE.astimezone(BERLIN).date()
    assert found.days[-1] == NOON.astimezone(BERLIN).date()
    assert len(found.days) == (found.days[-1] - found.days[0]).days + 1
    by_day = Counter((one.levels[-1], opened_at(one).astimezone(BERLIN).date()) for one in recent)
    assert {
        (level, day): count
        for level, counts in found.per_day.items()
        for day, count in zip(found.days, counts, strict=True)
        if count
    } == by_day


def test_a_day_is_the_lenders(connection: Connection) -> None:
    """An alert late in the evening of UTC is tomorrow's in Auckland."""
    one = next(one for one in alerted(None) if opened_at(one) >= SINCE)
    for zone in ("UTC", "Pacific/Auckland", "America/Los_Angeles"):
        found = figures(connection, LEAD, SINCE, NOON, zone=zone, serious_days=SERIOUS_DAYS)
        day = opened_at(one).astimezone(ZoneInfo(zone)).date()
        assert found.per_day[one.levels[-1]][found.days.index(day)] >= 1
        assert sum(map(sum, found.per_day.values())) == found.opened


def test_figures_of_earlier_days_leave_out_what_opened_later(connection: Connection) -> None:
    last = max(opened_at(one) for one in alerted(None))
    until = last - dt.timedelta(seconds=1)
    found = figures(connection, LEAD, SINCE, NOON, zone="UTC", serious_days=SERIOUS_DAYS, until=until)
    earlier = [one for one in alerted(None) if SINCE <= opened_at(one) <= until]
    assert 0 < found.opened == len(earlier) == sum(map(sum, found.per_day.values()))
    assert found.days[-1] == until.date()
    now = figures(connection, LEAD, SINCE, NOON, zone="UTC", serious_days=SERIOUS_DAYS)
    assert (found.open, found.ages) == (now.open, now.ages), "what is open is open now"
    assert latest_opening(connection, LEAD, NOON) == last
    assert latest_opening(connection, LEAD, until) == max(map(opened_at, earlier))
    assert latest_opening(connection, replace(LEAD, products=frozenset()), NOON) is None


@pytest.mark.usefixtures("engine")
def test_who_finds_no_alert_is_led_to_the_last_ones(client: TestClient, desk: Desk, clock: SetClock) -> None:
    name = new_account(desk.engine, "lead")
    last = max(opened_at(one) for one in alerted(None)).date()
    assert "up to the last one" not in signed_in(client, name).get("/portfolio").text
    clock.move(days=200)
    lead = signed_in(client, name)
    (link,) = re.findall(r'href="(/portfolio\?days=7&amp;until=[^"]+)"', lead.get("/portfolio?days=7").text)
    assert link.endswith(str(last))
    page = lead.get(link.replace("&amp;", "&")).text
    assert "No alert was opened in this time." not in page
    assert f"/portfolio?days=90&amp;until={last}" in page
    assert ">Up to today</a>" in page
    assert lead.get("/portfolio?until=9999-12-31").status_code == 200
    for wrong in ("1000-01-01", "yesterday"):
        assert lead.get(f"/portfolio?until={wrong}").status_code == 422


def test_what_people_did_is_told_as_a_funnel(connection: Connection) -> None:
    rules = CaseRules()
    recent = [one for one in alerted(None) if opened_at(one) >= SINCE and one.cleared_days is None]
    first, second, third, fourth = recent[:4]
    now = NOON

    def do(borrower: Borrower, action: str, **more: object) -> None:
        act(connection, LEAD, Asked(borrower.alert_id, action, **more), now, rules)  # type: ignore[arg-type]

    do(first, "contact")
    do(first, "promise", promise=PromisedPayment(amount=50.0, due_on=(NOON + DAY).date(), contract_id=None))
    do(second, "contact")
    do(second, "close", disposition="paid")
    do(third, "close", disposition="false_alarm", reason="paid in cash")
    do(fourth, "close", disposition="handed_over", reason="to the lawyers")
    before = sum(one.cleared_days is not None and opened_at(one) >= SINCE for one in alerted(None))
    found = figures(connection, LEAD, SINCE, NOON, zone="UTC", serious_days=SERIOUS_DAYS)
    assert (found.touched, found.contacted, found.promised, found.cured) == (4, 2, 1, before + 1)
    assert (found.judged, found.confirmed) == (2, 1), "handed over is no verdict"
    waits = sorted(NOON - opened_at(one) for one in recent[:4])
    assert found.usual_wait == statistics.median(waits)
    assert found.long_wait is not None
    assert waits[2] < found.long_wait <= waits[3]


DIFF = {
    "compared_scores": 1000, "moved": 250, "mean_move": 0.0123, "largest_move": 0.4, "population_stability": 0.0871,
    "live_alerts": 40, "replayed_alerts": 43, "alerts_gained": 5, "alerts_lost": 2, "alerts_earlier": 7,
    "alerts_later": 1, "median_days_earlier": 12.4, "median_days_later": -3.0,
    "levels": {"LOW": {"LOW": 900, "MEDIUM": 11, "HIGH": 1}, "MEDIUM": {"LOW": 4, "MEDIUM": 60, "HIGH": 6},
               "HIGH": {"LOW": 0, "MEDIUM": 2, "HIGH": 16}},
    "deciles": [{"decile": n, "mean_live": n / 20, "mean_other": n / 18} for n in range(1, 11)],
    "products": [{"segment": "card", "scores": 700, "alerts": {"gained": 4, "lost": 2}},
                 {"segment": "", "scores": 300}],
    "live_outcomes": {"precision": 0.5, "recall": 0.6, "median_lead_days": 40.0}, "replayed_outcomes": None,
}  # fmt: skip


def signed_in(client: TestClient, name: str) -> TestClient:
    client.cookies.clear()
    answer = client.post("/sign-in", data={"name": name, "password": PASSWORD}, follow_redirects=False)
    assert answer.status_code == 303
    return client


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_diffs_of_replays_are_shown_to_who_sees_the_whole_portfolio(
    desk_database: DatabaseConnection, client: TestClient, desk: Desk
) -> None:
    for name in ("march", "april"):
        replay_runs.record_start(desk_database, name, NOON - 90 * DAY, NOON, "feedc0de")
        replay_runs.record_end(desk_database, name, "finished", {"scored": 1000})
    replay_runs.record_diff(desk_database, "march", DIFF)
    lead = signed_in(client, new_account(desk.engine, "lead"))
    page = words(lead.get("/portfolio").text)
    assert "march 0.087 5 2 7 1" in page
    assert "april" not in page, "it was not compared"
    shown = lead.get("/portfolio/replays/march").text
    assert "<svg" in shown
    assert "Model feedc0de" in words(shown)
    assert "25.0% moved" in words(shown)
    assert "Earlier 7 by 12 days, the median" in words(shown)
    assert "Low live 900 11 1" in words(shown)
    assert "card 700 4 2 0 0" in words(shown)
    assert lead.get("/portfolio/replays/april").status_code == 404
    assert lead.get("/portfolio/replays/nobody").status_code == 404

    some = new_account(desk.engine, "collector")
    with desk_database.connect() as connection:
        connection.execute("UPDATE accounts SET products = '{card}' WHERE name = %s", (some,))
    assert "march" not in signed_in(client, some).get("/portfolio").text
    assert client.get("/portfolio/replays/march").status_code == 404

    replay_runs.record_start(desk_database, "march", NOON - 90 * DAY, NOON, "feedc0de")
    assert "march" not in words(signed_in(client, new_account(desk.engine, "lead")).get("/portfolio").text)


@pytest.mark.parametrize("found", [{}, {"levels": {}, "deciles": [], "products": []}, {"population_stability": None}])
def test_a_diff_that_says_less_is_shown_as_far_as_it_goes(
    desk_database: DatabaseConnection, client: TestClient, desk: Desk, found: dict[str, object]
) -> None:
    replay_runs.record_start(desk_database, "less", NOON, NOON, "m")
    replay_runs.record_end(desk_database, "less", "finished", {})
    with desk_database.connect() as connection:
        connection.execute("UPDATE replay_runs SET compared_at = now(), diff = %s WHERE name = 'less'", (Jsonb(found),))
    lead = signed_in(client, new_account(desk.engine, "lead"))
    assert lead.get("/portfolio/replays/less").status_code == 200
    assert "less" in words(lead.get("/portfolio").text)


def test_a_diff_of_no_run_is_an_error(desk_database: DatabaseConnection) -> None:
    with pytest.raises(KeyError, match="no run named 'never'"):
        replay_runs.record_diff(desk_database, "never", {})
