"""Rules: the structures of a mapping file, and which columns they read. Checks nothing and opens no file."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from events.types import Kind

FieldType: TypeAlias = Literal[
    "identifier", "optional identifier", "text", "choice", "number", "integer", "moment", "day"
]
Value: TypeAlias = str | int | float | bool

RELATIVE = ("months_before", "months_after", "days_before", "days_after")
"""Keys of a date that a number in a column is counted from."""


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Holds where a column's text is one of a list (`in`), or none of it (`not_in`)."""

    column: str
    in_: list[Value] | None = msgspec.field(default=None, name="in")
    not_in: list[Value] | None = None


class Term(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of a sum, times `scale`."""

    column: str
    scale: float = 1.0


class Sign(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A column that says which way an amount went: its texts for money out and for money in."""

    column: str
    negative: list[Value]
    positive: list[Value]


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name for numbers below a limit that no earlier band took; without a limit, for all that are left."""

    name: str
    below: float | None = None


class DaysBetween(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two dates, each a column or a rule of its own: days from `start` until `end`, negative if it is earlier."""

    start: Rule | str = msgspec.field(name="from")
    end: Rule | str = msgspec.field(name="to")


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The source of one field (`column`, `constant`, `sum`, `join` or `days_between`) and its conversions.

    With `months_before`, `months_after`, `days_before` or `days_after`, which name a date, the column holds a number of
    months or days before or after that date.
    """

    column: str | None = None
    constant: Any = None
    sum: list[Term] | None = None
    join: list[str] | None = None
    days_between: DaysBetween | None = None
    map: dict[str, Value] | None = None
    unlisted: Literal["refuse", "keep", "missing"] | None = None
    bands: list[Band] | None = None
    missing: list[Value] | None = None
    scale: float | None = None
    absolute: bool | None = None
    sign: Sign | None = None
    format: str | None = None
    time: str | None = None
    months_before: Rule | str | None = None
    months_after: Rule | str | None = None
    days_before: Rule | str | None = None
    days_after: Rule | str | None = None
    end_of_month: bool | None = None
    shift_days: float | None = None
    prefix: str | None = None
    where: list[Condition] | None = None


class Csv(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text tables are written."""

    delimiter: str = ","
    decimal: str = "."
    thousands: str = ""
    encoding: str = "utf-8"


class Unpivot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a wide row becomes a row per period.

    `columns` gives each set of columns a name: a pattern with `{}` for the number (`"m{}"`, or `"m{:02}"` for m01), or
    a list. `numbers` are the first number and the last, which may be lower. `date` and `number` name two more columns:
    the period's date, counted from `start` in steps, and its number.
    """

    columns: dict[str, str | list[str]]
    numbers: list[int] | None = None
    number: str | None = None
    date: str | None = None
    start: Rule | str | None = None
    step_months: int | None = None
    step_days: int | None = None

    def periods(self) -> range:
        """The numbers of the periods, in the order in which dates are counted."""
        if self.numbers is None:
            return range(1, 1 + max(len(names) for names in self.columns.values()))
        first, last = self.numbers
        return range(first, last + 1) if first <= last else range(first, last - 1, -1)

    def wide(self, name: str) -> list[str]:
        """The table's columns that one of `columns` stands for, a column per period."""
        names = self.columns[name]
        return [names.format(number) for number in self.periods()] if isinstance(names, str) else names

    def made(self) -> list[str]:
        """The names of the columns that it makes."""
        return [*self.columns, *(name for name in (self.number, self.date) if name is not None)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tables that hold one kind of record, and the rules of its fields. A rule that is a text names a column."""

    path: str | list[str]
    fields: dict[str, Rule | str]
    where: list[Condition] | None = None
    csv: Csv | None = None
    unpivot: Unpivot | None = None


class MappingFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    headline_horizon_days: int
    outcomes: Section
    name: str = "files"
    split: Literal["client", "time"] = "client"
    time_zone: str = "UTC"
    missing: list[Value] = msgspec.field(default_factory=lambda: [""])
    other_users: Literal["keep", "drop"] = "keep"
    several_outcomes: Literal["refuse", "merge"] = "refuse"
    csv: Csv = msgspec.field(default_factory=Csv)
    repayments: Section | list[Section] = msgspec.field(default_factory=list)
    transactions: Section | list[Section] = msgspec.field(default_factory=list)
    activity: Section | list[Section] = msgspec.field(default_factory=list)
    profiles: Section | list[Section] = msgspec.field(default_factory=list)

    def sections(self, kind: Kind) -> list[Section]:
        """The sections of a kind of event, in the order of the file."""
        found: Section | list[Section] = getattr(self, kind)
        return [found] if isinstance(found, Section) else found


def as_rule(given: Rule | str) -> Rule:
    """A rule, a bare column name written out."""
    return Rule(column=given) if isinstance(given, str) else given


def rule_of(section: Section, name: str) -> Rule | None:
    """The rule of a field, a bare column name written out; None where the mapping has none."""
    given = section.fields.get(name)
    return None if given is None else as_rule(given)


def base_of(rule: Rule) -> tuple[str, Rule] | None:
    """The key of `RELATIVE` that a rule has, and the rule of the date that it names."""
    return next(((key, as_rule(base)) for key in RELATIVE if (base := getattr(rule, key)) is not None), None)


def columns_of(section: Section) -> list[str]:
    """Every column that a section's fields and conditions read, each once; those that `unpivot` makes among them."""
    columns: dict[str, None] = {}
    for given in section.fields.values():
        columns |= dict.fromkeys(columns_of_rule(as_rule(given)))
    return list(columns | {condition.column: None for condition in section.where or ()})


def columns_of_rule(rule: Rule) -> list[str]:
    """Every column that a rule reads."""
    named = [rule.column, rule.sign.column if rule.sign else None, *(term.column for term in rule.sum or ())]
    named += rule.join or ()
    named += (condition.column for condition in rule.where or ())
    inner = [base[1]] if (base := base_of(rule)) else []
    if rule.days_between is not None:
        inner += [as_rule(rule.days_between.start), as_rule(rule.days_between.end)]
    return [column for column in named if column is not None] + [
        column for each in inner for column in columns_of_rule(each)
    ]
