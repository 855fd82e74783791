"""Reasons: which facts are named, how a branch's contribution is divided, and that every sentence is complete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.contracts import ENDED, OPEN, id_words, initial_standing
from events.reasons import CATALOGUE
from events.types import KINDS, Kind
from stream.alerts.effects import Effects
from stream.alerts.facts import REPAYMENT_FACTS, initial_facts
from stream.alerts.reasons import LEAST_CONTRIBUTION, MOST_REASONS, reasons_of
from stream.outputs import Reason

TODAY = 19_500
DOCS = Path(__file__).parents[4] / "docs" / "alerts.md"


@dataclass(frozen=True)
class User:
    """One user's facts and contracts, `[1]`."""

    facts: np.ndarray
    standing: np.ndarray

    @property
    def today(self) -> np.ndarray:
        return self.facts["latest_day"].max(axis=1).astype(np.int64)

    def with_days(self, *, first: object = None, latest: object = None) -> User:
        """The same, observed on other days."""
        facts = self.facts.copy()
        for name, days in (("first_day", first), ("latest_day", latest)):
            facts[name] = facts[name] if days is None else days
        return User(facts, self.standing)


def user(**values: float) -> User:
    """A user with one contract who has been observed for a year, with usual sums unless told otherwise."""
    facts, standing = initial_facts(1), initial_standing(1)
    facts["first_day"], facts["latest_day"] = TODAY - 3_650, TODAY
    facts["repayments"]["latest_day"][0, 0] = TODAY
    standing["phase"][0, 0], standing["reported_day"][0, 0] = OPEN, TODAY
    for name in ("spent", "income", "sessions", "cash"):
        facts[f"{name}_recent"], facts[f"{name}_slow"] = 43.78, 173.6  # one unit a day, for long
    for name, value in values.items():
        if name == "days_past_due":
            standing["reported_days"][0, 0] = value
        elif name in REPAYMENT_FACTS.names:
            facts["repayments"][name][0, 0] = value
        else:
            facts[name] = value
    return User(facts, standing)


def reasons(user: User, **contributions: float) -> list[Reason]:
    parts = np.array([[contributions.get(kind, 0.0) for kind in KINDS]], dtype=np.float32)
    return reasons_of(parts, user.facts, user.standing, user.today)[0]


def codes(facts: User, **contributions: float) -> list[str]:
    return [reason.code for reason in reasons(facts, **contributions)]


EXAMPLES: list[tuple[Kind, dict[str, float], str, str]] = [
    ("repayments", {"days_past_due": 1}, "overdue", "a payment is 1 day past due"),
    ("repayments", {"days_past_due": 12.4}, "overdue", "a payment is 12 days past due"),
    ("repayments", {"late_last": 35.0, "late_previous": 35.0}, "late_payment", "the last payment came 35 days late"),
    (
        "repayments",
        {"late_last": 9, "late_previous": 4, "late_slow": 5},
        "paying_later",
        "payments are getting later: 9 days late now, 5 days on average",
    ),
    ("repayments", {"missed": 1.0}, "missed_payments", "a payment was missed recently"),
    ("repayments", {"missed": 2.0}, "missed_payments", "several payments were missed recently"),
    ("repayments", {"paid_share": 0.6}, "part_payments", "only part of what is due is being paid, about 60 %"),
    ("repayments", {"reversed": 0.7}, "reversed_payment", "a payment was reversed recently"),
    ("repayments", {"paid_day": TODAY - 50}, "no_payment", "no payment has come in for 50 days"),
    ("repayments", {}, "repayment_pattern", "the repayment history as a whole points to trouble"),
    (
        "transactions",
        {"near_limit_day": TODAY - 22},
        "near_limit",
        "the balance has been close to the credit limit for 3 weeks",
    ),
    (
        "transactions",
        {"near_limit_day": TODAY},
        "near_limit",
        "the balance has been close to the credit limit for a few days",
    ),
    ("transactions", {"cash_recent": 90.0}, "cash_out", "cash withdrawals are 2.1 times their usual level"),
    (
        "transactions",
        {"income_recent": 17.5},
        "income_down",
        "money coming in has fallen to about 40 % of its usual level",
    ),
    ("transactions", {"spent_recent": 87.6}, "spending_up", "spending is 2.0 times its usual level"),
    (
        "transactions",
        {"spent_recent": 13.1},
        "spending_down",
        "spending has fallen to about 30 % of its usual level",
    ),
    ("transactions", {}, "spending_pattern", "account movements as a whole point to trouble"),
    ("activity", {"inquiries": 2.0}, "credit_inquiries", "the borrower asked for credit several times recently"),
    ("activity", {"device_changes": 0.9}, "device_change", "the app was used from a new device recently"),
    ("activity", {"sessions_recent": 131.4}, "sessions_up", "the app is opened 3.0 times as often as usual"),
    ("activity", {"sessions_recent": 10.0}, "sessions_down", "the app is opened much less than usual"),
    ("activity", {}, "activity_pattern", "inquiries and use of the app as a whole point to trouble"),
    ("profiles", {}, "profile_risk", "what is known from the application points to a higher risk"),
]


@pytest.mark.parametrize(("kind", "values", "code", "text"), EXAMPLES, ids=[f"{e[2]}-{e[3][:12]}" for e in EXAMPLES])
def test_each_reason_in_words(kind: Kind, values: dict[str, float], code: str, text: str):
    named = reasons(user(**values), **{kind: 0.75})
    assert [(reason.code, reason.text) for reason in named] == [(code, text)]
    assert named[0].contribution == pytest.approx(0.75)


def test_every_code_has_an_example_or_a_test_of_its_own():
    assert {example[2] for example in EXAMPLES} | {"combination"} == set(CATALOGUE)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("repayments", {"days_past_due": 0.5, "missed": 0.4, "reversed": 0.4, "paid_share": 0.95}),
        ("repayments", {"late_last": 9, "late_previous": 9, "late_slow": 5}),
        ("repayments", {"late_last": 6, "late_previous": 4, "late_slow": 5}),
        ("repayments", {"paid_day": TODAY - 44}),
        ("transactions", {"spent_recent": 60.0, "cash_recent": 60.0, "income_recent": 30.0}),
        ("transactions", {"cash_recent": 90.0, "spent_recent": 60_000.0, "spent_slow": 240_000.0}),
        ("activity", {"inquiries": 1.0, "device_changes": 0.4, "sessions_recent": 30.0}),
    ],
)
def test_what_is_usual_is_not_named(kind: Kind, values: dict[str, float]):
    named = codes(user(**values), **{kind: 1.0})
    assert len(named) == 1
    assert named[0].endswith("_pattern")


def test_facts_fade_until_today_even_when_their_side_is_silent():
    facts = user(inquiries=4.0)
    assert codes(facts, activity=1.0) == ["credit_inquiries"]
    assert "credit_inquiries" not in codes(facts.with_days(latest=[TODAY + 60, 0, TODAY]), activity=1.0)


def test_what_is_overdue_is_as_old_as_it_is_on_the_day_of_the_alert():
    def said(days_past_due: float) -> list[str]:
        facts = user(days_past_due=days_past_due)
        facts.standing["reported_day"] = TODAY - 20
        return [reason.text for reason in reasons(facts, repayments=1.0)]

    assert said(3.0) == ["a payment is 23 days past due"]
    assert said(0.0) == said(-2.0) == said(float("nan")) == ["the repayment history as a whole points to trouble"]


def test_silence_shows_as_a_fall():
    facts = user().with_days(latest=[TODAY + 90, TODAY, 0])
    assert codes(facts, transactions=1.0) == ["income_down", "spending_down"]


@given(age=st.integers(0, 400), step=st.integers(1, 3))
def test_a_short_history_of_steady_spending_is_no_rise(age: int, step: int):
    whole = user().with_days(first=TODAY - age)
    facts = whole.facts
    days = [day for day in range(age + 1) if day % step == 0]
    for term, half_life in (("recent", 30), ("slow", 120)):
        for name in ("spent", "income", "cash", "sessions"):
            facts[f"{name}_{term}"] = sum(0.5 ** (day / half_life) for day in days)
    assert codes(whole, transactions=1.0) == ["spending_pattern"]
    assert codes(whole, activity=1.0) == ["activity_pattern"]


@pytest.mark.parametrize("age", [60, 90, 365, 2_000])
def test_twice_as_much_is_twice_as_much_at_any_age(age: int):
    whole = user().with_days(first=TODAY - age)
    facts = whole.facts
    for name in ("spent", "income", "cash", "sessions"):
        facts[f"{name}_recent"] = sum(0.5 ** (day / 30) for day in range(age + 1))
        facts[f"{name}_slow"] = sum(0.5 ** (day / 120) for day in range(age + 1))
    facts["spent_recent"] *= 2
    assert [reason.text for reason in reasons(whole, transactions=1.0)] == ["spending is 2.0 times its usual level"]


def test_usual_means_nothing_in_the_first_two_months():
    facts = user(spent_recent=400.0)
    assert codes(facts.with_days(first=TODAY - 59), transactions=1.0) == ["spending_pattern"]
    assert "spending_up" in codes(facts.with_days(first=TODAY - 60), transactions=1.0)


def test_a_branch_is_shared_by_the_strength_of_its_facts():
    named = reasons(user(reversed=0.5, missed=2.0), repayments=0.9)
    assert [(reason.code, reason.contribution) for reason in named] == [
        ("missed_payments", pytest.approx(0.6)),
        ("reversed_payment", pytest.approx(0.3)),
    ]


def test_one_cause_is_named_once_in_its_first_words():
    late = {"late_last": 20.0, "late_previous": 4.0, "late_slow": 5.0}
    assert codes(user(days_past_due=15.0, missed=2.0, paid_day=TODAY - 90), repayments=0.9) == ["overdue"]
    assert codes(user(missed=2.0, paid_day=TODAY - 90), repayments=0.9) == ["missed_payments"]
    assert codes(user(**late), repayments=0.9) == ["late_payment"]
    assert set(codes(user(days_past_due=15.0, **late), repayments=0.9)) == {"overdue", "paying_later"}


def test_a_reason_contributes_what_its_counterfactual_is_estimated_to_do():
    effects = Effects({"overdue": [1.0, 2.0, 4.0, 0.5], "paying_later": [0.0, 0.0, 0.1, 0.0]})
    facts = user(days_past_due=15.0, late_last=9, late_previous=4, late_slow=5, missed=2.0, reversed=1.0)
    parts = np.array([[0.3, 0.0, 0.0, 0.0]], dtype=np.float32)
    (named,) = reasons_of(parts, facts.facts, facts.standing, facts.today, np.array([2.0]), effects)
    # paying_later: 0.1 times a strength of 0.4 is too little to name; of reversals nothing is known, they get a share.
    overdue, shared = 1 + 2 * 0.3 + 4 * 0.5 + 0.5 * 2, 0.3 * 1 / (0.5 + 0.4 + 1)
    assert [(reason.code, reason.contribution) for reason in named] == [
        ("overdue", pytest.approx(overdue, abs=1e-3)),
        ("reversed_payment", pytest.approx(shared, abs=1e-3)),
    ]


def test_what_the_causes_leave_unexplained_is_named_in_general():
    effects = Effects({"near_limit": [0.0, 0.25, 0.0, 0.0]})
    facts = user(near_limit_day=TODAY - 22)
    parts = np.array([[0.0, 0.8, 0.0, 0.0]], dtype=np.float32)
    (named,) = reasons_of(parts, facts.facts, facts.standing, facts.today, np.array([0.0]), effects)
    assert [(reason.code, reason.contribution) for reason in named] == [
        ("spending_pattern", pytest.approx(0.6, abs=1e-3)),
        ("near_limit", pytest.approx(0.2, abs=1e-3)),
    ]


def test_a_cause_counts_even_where_its_branch_as_a_whole_does_not():
    effects = Effects({"overdue": [1.0, 0.0, 0.0, 0.0], "device_change": [-3.0, 0.0, 0.0, 0.0]})
    facts = user(days_past_due=15.0, device_changes=1.0)
    parts = np.array([[-1.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    (named,) = reasons_of(parts, facts.facts, facts.standing, facts.today, np.array([0.0]), effects)
    assert [(reason.code, reason.contribution) for reason in named] == [("overdue", 1.0)]


def test_branches_are_ranked_together():
    facts = user(days_past_due=30.0, inquiries=4.0)
    named = reasons(facts, repayments=0.5, transactions=0.7, activity=1.2, profiles=-3.0)
    assert [reason.code for reason in named] == ["credit_inquiries", "spending_pattern", "overdue"]


def test_equal_contributions_stand_in_the_order_of_the_catalogue():
    named = codes(user(), repayments=0.5, transactions=0.5, activity=0.5, profiles=0.5)
    assert named == ["repayment_pattern", "spending_pattern", "activity_pattern", "profile_risk"]


def test_small_and_negative_contributions_name_nothing():
    facts = user(missed=2.0, inquiries=4.0)
    named = reasons(facts, repayments=LEAST_CONTRIBUTION / 2, activity=-1.0)
    assert [(reason.code, reason.contribution) for reason in named] == [("combination", 0.0)]
    assert named[0].text == CATALOGUE["combination"].text


def test_a_contribution_that_is_no_number_names_nothing():
    assert codes(user(), repayments=float("nan")) == ["combination"]


def test_what_the_backstop_goes_by_is_always_named():
    facts = user(days_past_due=31.0, late_last=31.0)
    assert [(reason.code, reason.contribution) for reason in reasons(facts, repayments=-1.0)] == [("overdue", 0.0)]
    facts = user(late_last=31.0)
    assert [(reason.code, reason.contribution) for reason in reasons(facts, repayments=-1.0)] == [("late_payment", 0.0)]
    crowded = user(days_past_due=1.0, missed=2.0, reversed=1.0, paid_share=0.1, paid_day=TODAY - 90, inquiries=4.0)
    named = reasons(crowded, repayments=1.0, activity=2.0)
    assert len(named) == MOST_REASONS
    assert named[-1].code == "overdue"
    assert 0 < named[-1].contribution < named[-2].contribution


FACT_ROWS = st.fixed_dictionaries(
    {
        "days_past_due": st.sampled_from([float("nan"), -3.0, 0.0, 1.0, 45.0]),
        "late_last": st.sampled_from([float("nan"), 0.0, 3.0, 20.0]),
        "late_previous": st.sampled_from([float("nan"), 0.0, 2.0]),
        "late_slow": st.sampled_from([float("nan"), 0.0, 10.0]),
        "paid_share": st.sampled_from([float("nan"), 0.0, 0.5, 1.0]),
        "missed": st.floats(0, 5, width=32),
        "reversed": st.floats(0, 2, width=32),
        "spent_recent": st.floats(0, 2.0**40, width=32),
        "cash_recent": st.floats(0, 2.0**40, width=32),
        "income_recent": st.floats(0, 2.0**40, width=32),
        "income_slow": st.sampled_from([0.0, 173.6, 1e12]),
        "sessions_recent": st.floats(0, 1e9, width=32),
        "inquiries": st.floats(0, 10, width=32),
        "device_changes": st.floats(0, 3, width=32),
        "near_limit_day": st.sampled_from([0, TODAY - 300, TODAY]),
        "paid_day": st.sampled_from([0, TODAY - 300, TODAY]),
    }
)


@given(values=FACT_ROWS, parts=st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4))
@settings(deadline=None)
def test_what_holds_of_any_reasons(values: dict[str, float], parts: list[float]):
    facts = user(**values)
    named = reasons_of(np.array([parts], dtype=np.float32), facts.facts, facts.standing, facts.today)[0]
    contributions = [reason.contribution for reason in named]
    assert 1 <= len(named) <= MOST_REASONS
    assert len({reason.code for reason in named}) == len(named)
    assert contributions == sorted(contributions, reverse=True)
    assert min(contributions) >= 0
    for number, kind in enumerate(KINDS):
        ours = [reason.contribution for reason in named if CATALOGUE[reason.code].kind == kind]
        assert sum(ours) <= max(parts[number], 0) + 1e-3, "no branch is given more than it contributes"
        if parts[number] < LEAST_CONTRIBUTION:
            assert sum(ours) == 0
    for reason in named:
        assert not re.search(r"[{}]|nan|inf", reason.text)
    overdue, late = values["days_past_due"] >= 1, values["late_last"] >= 15
    assert [code for code in ("overdue", "late_payment") if code in {reason.code for reason in named}] == (
        ["overdue"] if overdue else ["late_payment"] if late else []
    )


def test_rows_are_explained_one_by_one():
    users = [user(missed=2.0), user(inquiries=4.0), user()]
    facts, standing, today = (
        np.concatenate([getattr(one, name) for one in users]) for name in ("facts", "standing", "today")
    )
    parts = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32)
    named = [[reason.code for reason in row] for row in reasons_of(parts, facts, standing, today)]
    assert named == [["missed_payments"], ["credit_inquiries"], ["profile_risk"]]
    assert reasons_of(np.empty((0, 4), dtype=np.float32), facts[:0], standing[:0], today[:0]) == []


def test_the_contract_that_a_reason_is_strongest_for_is_named():
    both = user(days_past_due=12.0, missed=2.0)
    both.standing["contract_id"][0, :3] = id_words(["small", "loan-2", "old"])
    both.standing["phase"][0, 1:3] = OPEN, ENDED
    both.standing["reported_days"][0, 1:3] = 40.0, 400.0
    both.standing["reported_day"][0, 1:3] = TODAY
    both.facts["repayments"]["reversed"][0, 0] = 1.0
    texts = {reason.code: reason.text for reason in reasons(both, repayments=1.0)}
    assert texts["overdue"] == "loan-2: a payment is 40 days past due"
    assert texts["reversed_payment"] == "small: a payment was reversed recently"


def test_the_documentation_lists_the_catalogue():
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in DOCS.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    listed = {row[0].strip("`"): row[1:] for row in rows if row[0].strip("`") in CATALOGUE}
    assert list(listed) == list(CATALOGUE), f"{DOCS} lists other reason codes than stream.alerts.reasons.CATALOGUE"
    for code, entry in CATALOGUE.items():
        words = [entry.kind or "-", entry.cause or "-", entry.text, entry.when, entry.strength, entry.counterfactual]
        assert listed[code] == words, code
