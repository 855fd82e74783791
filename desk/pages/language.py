"""What a page says, in the language of the account and the time zone of the lender: words, numbers, dates, reasons.

Words come from the catalogues `desk/words/*.toml`, one for each language, with the same keys. A key that a catalogue
lacks, or a value that its words need and nobody gave, is an error and never an empty text. Reads no clock: moments are
arguments.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import NumberFormatError, format_currency, format_decimal, format_percent, parse_decimal

from events.reasons import CATALOGUE
from events.text import printable

LANGUAGES: tuple[str, ...] = ("en", "de")
UNKNOWN = "–"
"""Stands where a figure is not known."""

_LOCALES = {"en": "en_GB", "de": "de_DE"}
_COUNTED = re.compile(r"^(\d+) (day|week)s?$")
_FIELD = re.compile(r"\\\{(\w+)\\\}")


class UnknownWord(LookupError):
    """A catalogue has no such key; the message names key and language."""


class NoNumber(ValueError):
    """What somebody typed is no number in their language."""


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """The words of a language by key, `section.name`. Raises `UnknownWord` for a language that there is not."""
    if language not in LANGUAGES:
        raise UnknownWord(f"there is no language {language!r}; there are {', '.join(LANGUAGES)}")
    text = (resources.files("desk") / "words" / f"{language}.toml").read_text(encoding="utf-8")
    published = {f"reason.{code}": entry.text for code, entry in CATALOGUE.items()} if language == "en" else {}
    return published | {
        f"{section}.{name}": words for section, names in tomllib.loads(text).items() for name, words in names.items()
    }


@cache
def _patterns() -> Mapping[str, re.Pattern[str]]:
    """By reason code what the sentences of the code look like, its numbers as named groups."""
    return {
        code: re.compile("^" + _FIELD.sub(r"(?P<\1>.+?)", re.escape(entry.text)) + "$")
        for code, entry in CATALOGUE.items()
    }


@dataclass(frozen=True)
class Language:
    """Says things in one language and one time zone. `code` is one of `LANGUAGES`."""

    code: str
    zone: ZoneInfo

    def __post_init__(self) -> None:
        catalogue(self.code)

    @property
    def locale(self) -> Locale:
        return _locale(_LOCALES[self.code])

    def t(self, key: str, /, **values: object) -> str:
        """The words of `key` with `values` in the place of their names in braces.

        Where a value `count` is given and `key.one` exists, that is said of one, `key` itself of other numbers.
        Raises `UnknownWord` for a key that the catalogue lacks, `KeyError` for a value that the words need.
        """
        words = catalogue(self.code)
        if values.get("count") == 1 and f"{key}_one" in words:
            key = f"{key}_one"
        if key not in words:
            raise UnknownWord(f"desk/words/{self.code}.toml has no {key!r}")
        shown = {name: self.whole(value) if isinstance(value, int) else value for name, value in values.items()}
        return words[key].format_map(shown)

    def whole(self, number: int) -> str:
        """A count."""
        return str(format_decimal(number, locale=self.locale))

    def number(self, value: float | None, digits: int = 1) -> str:
        """A number with at most so many decimals."""
        if value is None:
            return UNKNOWN
        return str(format_decimal(round(value, digits), format=f"#,##0.{'#' * digits}", locale=self.locale))

    def parsed(self, typed: str) -> float:
        """A number as people of this language write it. Raises `NoNumber`, also where it could be read in two ways."""
        try:
            value = float(parse_decimal(typed.strip(), locale=self.locale, strict=True))
        except (NumberFormatError, ValueError, OverflowError):
            raise NoNumber(typed) from None
        if not math.isfinite(value):
            raise NoNumber(typed)
        return value

    def signed(self, value: float | None, digits: int = 2) -> str:
        """A number with its sign and exactly so many decimals."""
        if value is None:
            return UNKNOWN
        pattern = f"+#,##0.{'0' * digits};-#,##0.{'0' * digits}"
        return str(format_decimal(value, format=pattern, locale=self.locale))

    def percent(self, share: float | None, digits: int = 1) -> str:
        """A share (0–1) in percent."""
        if share is None:
            return UNKNOWN
        return str(format_percent(share, format=_percent(self.code, digits), locale=self.locale))

    def money(self, amount: float | None, currency: str | None = None) -> str:
        """An amount, rounded to whole units from 1,000 on; with its currency where that is known."""
        if amount is None:
            return UNKNOWN
        digits = 0 if abs(amount) >= 1_000 else 2
        pattern = f"#,##0{'.' if digits else ''}{'0' * digits}"
        if currency is None:
            return str(format_decimal(amount, format=pattern, locale=self.locale))
        after = f"{pattern}\xa0¤" if self.code == "de" else f"¤{pattern}"
        return str(format_currency(amount, currency, format=after, locale=self.locale, currency_digits=False))

    def day(self, moment: dt.datetime | dt.date | None) -> str:
        """A date; of a moment the day that it is in the lender's time zone."""
        if moment is None:
            return UNKNOWN
        local = moment.astimezone(self.zone).date() if isinstance(moment, dt.datetime) else moment
        return str(format_date(local, format="d MMM y" if self.code == "en" else "d. MMM y", locale=self.locale))

    def short_day(self, day: dt.date) -> str:
        """A date without its year."""
        return str(format_date(day, format="d MMM" if self.code == "en" else "d. MMM", locale=self.locale))

    def minute(self, moment: dt.datetime | None) -> str:
        """Date and time of day in the lender's time zone."""
        if moment is None:
            return UNKNOWN
        time = format_datetime(moment.astimezone(self.zone), format="HH:mm", locale=self.locale)
        return f"{self.day(moment)}, {time}"

    def second(self, moment: dt.datetime) -> str:
        """Time of day to the second, in the lender's time zone."""
        return str(format_datetime(moment.astimezone(self.zone), format="HH:mm:ss", locale=self.locale))

    def ago(self, moment: dt.datetime | None, now: dt.datetime) -> str:
        """How long a moment is past, or ahead, in its largest unit."""
        if moment is None:
            return UNKNOWN
        return str(format_timedelta(moment - now, add_direction=True, threshold=1.2, locale=self.locale))

    def span(self, length: dt.timedelta | None) -> str:
        """A length of time in its largest unit."""
        if length is None:
            return UNKNOWN
        return str(format_timedelta(length, threshold=1.2, locale=self.locale))

    def days(self, days: float | None) -> str:
        """A number of days with its unit."""
        return UNKNOWN if days is None else self.t("unit.days", count=round(days))

    def reason(self, code: str, text: str) -> str:
        """A reason's sentence in this language, made of the numbers in the published one.

        A sentence that is not the catalogue's, as one of another release, is said as it was published.
        """
        key = f"reason.{code}"
        if self.code == "en" or code not in CATALOGUE:
            return printable(text)
        for contract, sentence in _readings(text):
            if found := _patterns()[code].match(sentence):
                said = {name: self._counted(value) for name, value in found.groupdict().items()}
                return f"{printable(contract)}{catalogue(self.code)[key].format_map(said)}"
        return printable(text)

    def _counted(self, value: str) -> str:
        """A value of a reason: `41 days`, `a few days`, `several payments were`, `2.4`."""
        if found := _COUNTED.match(value):
            return self.t(f"unit.{found[2]}s", count=int(found[1]))
        words = catalogue(self.code)
        key = f"value.{value.replace(' ', '_')}"
        if key in words:
            return words[key]
        try:
            return str(format_decimal(float(value), locale=self.locale))
        except ValueError:
            return value


def _readings(text: str) -> list[tuple[str, str]]:
    """The ways to read a sentence: after the name of a contract, which may hold colons itself, then as a whole."""
    places = [found.end() for found in re.finditer(": ", text)]
    return [*((text[:place], text[place:]) for place in reversed(places)), ("", text)]


@lru_cache(maxsize=len(LANGUAGES))
def _locale(name: str) -> Locale:
    try:
        return Locale.parse(name)
    except UnknownLocaleError as error:
        raise UnknownWord(f"Babel does not know the locale {name}: {error}") from None


def _percent(language: str, digits: int) -> str:
    decimals = f".{'0' * digits}" if digits else ""
    return f"0{decimals}\xa0%" if language == "de" else f"0{decimals}%"
