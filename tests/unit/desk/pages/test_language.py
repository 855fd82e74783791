"""Words, numbers, dates and reasons in the page's language."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desk.pages.language import LANGUAGES, Language, NoNumber, UnknownWord
from events.reasons import CATALOGUE

BERLIN = ZoneInfo("Europe/Berlin")
ENGLISH, GERMAN = Language("en", BERLIN), Language("de", BERLIN)
NOON = dt.datetime(2024, 3, 1, 23, 30, tzinfo=dt.UTC)


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(UnknownWord, match=r"no 'queue\.nothing_of_this_name'"):
        ENGLISH.t("queue.nothing_of_this_name")


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="cap"):
        ENGLISH.t("queue.cap", taken=1)


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(UnknownWord, match="no language 'xx'"):
        Language("xx", BERLIN)


@pytest.mark.parametrize(
    ("say", "count", "said"),
    [(ENGLISH, 1, "1 day"), (ENGLISH, 1200, "1,200 days"), (GERMAN, 1, "1 Tag"), (GERMAN, 1200, "1.200 Tage")],
)
def test_one_and_many(say: Language, count: int, said: str) -> None:
    assert say.t("unit.days", count=count) == said


def test_numbers_are_written_as_each_language_does() -> None:
    assert (ENGLISH.number(1234.56), GERMAN.number(1234.56)) == ("1,234.6", "1.234,6")
    assert (ENGLISH.percent(0.1234), GERMAN.percent(0.1234)) == ("12.3%", "12,3\xa0%")
    assert (ENGLISH.money(12.5, "EUR"), GERMAN.money(12.5, "EUR")) == ("€12.50", "12,50\xa0€")
    assert (ENGLISH.money(12_345.6), GERMAN.money(12_345.6)) == ("12,346", "12.346")
    assert ENGLISH.signed(-0.5) == "-0.50"


def test_what_is_not_known_is_a_dash() -> None:
    said = [ENGLISH.number(None), ENGLISH.money(None), ENGLISH.percent(None), ENGLISH.day(None), ENGLISH.minute(None),
            ENGLISH.days(None), ENGLISH.span(None), ENGLISH.signed(None), ENGLISH.ago(None, NOON)]  # fmt: skip
    assert set(said) == {"–"}


def test_moments_are_the_lenders() -> None:
    assert ENGLISH.day(NOON) == "2 Mar 2024"
    assert ENGLISH.minute(NOON) == "2 Mar 2024, 00:30"
    assert GERMAN.minute(NOON) == "2. März 2024, 00:30"
    assert ENGLISH.day(dt.date(2024, 3, 1)) == "1 Mar 2024"
    assert GERMAN.ago(NOON - dt.timedelta(days=3), NOON) == "vor 3 Tagen"


@pytest.mark.parametrize("language", LANGUAGES)
@given(value=st.floats(0.01, 1e9).map(lambda value: round(value, 2)))
def test_an_amount_is_read_as_it_is_written(language: str, value: float) -> None:
    say = Language(language, BERLIN)
    assert say.parsed(say.number(value, 2)) == value


@pytest.mark.parametrize("typed", ["", "x", "1.234.5", "1,23,4", "NaN", "inf", "--1", "12 €"])
def test_what_is_no_number_is_refused(typed: str) -> None:
    with pytest.raises(NoNumber):
        ENGLISH.parsed(typed)


def test_what_could_be_two_numbers_is_refused() -> None:
    """`1.5` is fifteen hundred to nobody, and not one and a half to a German."""
    with pytest.raises(NoNumber):
        GERMAN.parsed("1.5")


FILLED = {
    "days": "41 days", "last": "4 days", "usual": "1 day", "what": "several payments were", "percent": "60",
    "time": "a few days", "times": "2.4",
}  # fmt: skip


@pytest.mark.parametrize("code", CATALOGUE)
@pytest.mark.parametrize("contract", ["", "card-1: ", "a: b: "])
def test_every_reason_is_said_in_german(code: str, contract: str) -> None:
    said = GERMAN.reason(code, contract + CATALOGUE[code].text.format(**FILLED))
    assert said.startswith(contract)
    assert "{" not in said
    assert not {"days", "day", "payments", "the", "payment"} & set(said.removeprefix(contract).split())


def test_numbers_of_a_reason_are_translated() -> None:
    assert (
        GERMAN.reason("overdue", "card-1: a payment is 41 days past due")
        == "card-1: eine Zahlung ist 41 Tage überfällig"
    )
    assert "2,4-mal" in GERMAN.reason("cash_out", "cash withdrawals are 2.4 times their usual level")
    assert "1 Tag" in GERMAN.reason("paying_later", "payments are getting later: 4 days late now, 1 day on average")


def test_a_sentence_of_another_release_is_said_as_published() -> None:
    assert GERMAN.reason("overdue", "quite new words") == "quite new words"
    assert GERMAN.reason("of_another_release", "some words") == "some words"


@given(st.sampled_from(sorted(CATALOGUE)), st.text(max_size=60))
def test_no_sentence_breaks_a_page(code: str, text: str) -> None:
    for say in (ENGLISH, GERMAN):
        assert say.reason(code, text).isprintable()
