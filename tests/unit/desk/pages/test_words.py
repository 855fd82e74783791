"""The catalogues say the same in every language, all of it is used, and templates hold no words of their own."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from desk.pages.case_forms import CHANNELS
from desk.pages.language import LANGUAGES, catalogue
from events.contracts import STATUSES
from events.reasons import CATALOGUE
from events.types import KINDS, Activity, Repayment
from stream.case_records import CASE_ACTIONS, CASE_STATUSES, DISPOSITIONS
from stream.database.case_tables import PROMISE_STATES
from stream.database.registry import Step
from stream.database.tables import MODEL_ALIASES, MODEL_DECISIONS, MODEL_STATUSES, REPLAY_STATUSES, SIGNATURE_STATES
from stream.desk_roles import DESK_ROLES
from stream.outputs import LEVELS, Trigger

ROOT = Path(__file__).parents[4]
TEMPLATES = sorted(path for path in (ROOT / "desk" / "templates").glob("*.j2") if path.name != "api.html.j2")
MODULES = sorted((ROOT / "desk" / "pages").glob("*.py"))

FAMILIES: dict[str, tuple[str, ...]] = {
    "action": CASE_ACTIONS,
    "decision": MODEL_DECISIONS,
    "do": CASE_ACTIONS,
    "done": CASE_ACTIONS,
    "contact": CHANNELS,
    "event": tuple(
        kind
        for event in (Repayment, Activity)
        for field in msgspec.structs.fields(event)
        if field.name == "kind"
        for kind in get_args(field.type)
    ),
    "language": LANGUAGES,
    "level": LEVELS,
    "model": (*MODEL_STATUSES, *MODEL_ALIASES),
    "outcome": DISPOSITIONS,
    "promise": PROMISE_STATES,
    "reason": tuple(CATALOGUE),
    "role": DESK_ROLES,
    "run": REPLAY_STATUSES,
    "short": tuple(CATALOGUE),
    "signature": SIGNATURE_STATES,
    "standing": STATUSES,
    "status": CASE_STATUSES,
    "step": get_args(Step),
    "topic": KINDS,
    "trigger": get_args(Trigger),
    "unit": ("days", "weeks"),
    "value": ("a_few_days", "a_payment_was", "several_payments_were"),
    "webhook": ("active", "disabled"),
    "without": tuple(code for code in CATALOGUE if code != "combination"),
}
"""Sections whose names are those of something else, which a page puts after the section's name."""

WITHOUT_FORM = {"take", "open", "escalate", "clear", "promise_kept", "promise_broken", "request_review"}
"""Actions that no button is for."""


@cache
def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (*TEMPLATES, *MODULES))


@cache
def literals() -> frozenset[str]:
    """Every text between quotes in templates and modules, and the fixed parts of f-strings."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in TEMPLATES)
    found = {*re.findall(r'"([^"]*)"', text), *re.findall(r"'([^']*)'", text)}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return frozenset(found)


def uses(key: str) -> bool:
    """Whether a page says the words of a key: by its whole name, or by a beginning that a page completes."""
    key = key.removesuffix("_one")
    if key in literals():
        return True
    section, _, name = key.partition(".")
    if name in FAMILIES.get(section, ()):
        return True
    begun = [each for each in literals() if each.startswith(f"{section}.") and key.startswith(each)]
    rests = [key.removeprefix(each) for each in begun]
    ends = [end for end in literals() if re.fullmatch("_[a-z]+", end)]
    return any(rest.removesuffix(end) in literals() for rest in rests for end in ["", *ends])


def values(words: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(words) if name is not None)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_key(language: str) -> None:
    assert catalogue(language).keys() == catalogue("en").keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_takes_the_same_values(language: str) -> None:
    different = {key for key, words in catalogue("en").items() if values(words) != values(catalogue(language)[key])}
    assert different == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_said_in_empty_words(language: str) -> None:
    assert [key for key, words in catalogue(language).items() if not words.strip()] == []


@pytest.mark.parametrize("section", FAMILIES)
def test_what_pages_name_has_words(section: str) -> None:
    needed = {f"{section}.{name}" for name in FAMILIES[section]}
    if section in ("action", "do"):
        one_click = {"acknowledge", "start", "wake", "unassign"} if section == "do" else set()
        needed -= {f"{section}.{name}" for name in WITHOUT_FORM | one_click}
    assert needed - catalogue("en").keys() == set()


def test_every_key_that_a_page_asks_for_is_there() -> None:
    asked = set(re.findall(r"""\bt\(\s*["']([a-z_]+\.[A-Za-z_]+)["']\s*[,)]""", sources()))
    assert len(asked) > 150
    assert asked - catalogue("en").keys() == set()


def test_every_key_is_used() -> None:
    assert [key for key in catalogue("en") if not uses(key)] == []


def test_a_key_that_nobody_uses_is_found() -> None:
    assert not uses("queue.nobody_says_this")
    assert not uses("level.HIGHEST")


def words_of(template: str) -> Iterator[str]:
    """What a template says by itself: text between its marks, and attributes that are read out."""
    text = re.sub(r"{#.*?#}", "", template, flags=re.DOTALL)
    text = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    text = re.sub(r"{%.*?%}|{{.*?}}", " ", text, flags=re.DOTALL)
    for name in ("title", "aria-label", "placeholder", "alt", "data-label"):
        yield from re.findall(rf'\b{name}="([^"]*[^\W\d_][^"]*)"', text)
    text = re.sub(r"<kbd>.*?</kbd>", " ", text)
    yield from re.findall(r"[^\W\d_]+", re.sub(r"<[^>]*>", " ", text))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_holds_no_words(path: Path) -> None:
    assert list(words_of(path.read_text(encoding="utf-8"))) == []


def test_words_in_a_template_are_found() -> None:
    assert list(words_of('<p aria-label="Close" class="x">{{ t("a.b") }} and</p>')) == ["Close", "and"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_keeps_to_the_policy(path: Path) -> None:
    """Browsers refuse styles, scripts and handlers that stand in the page; nothing is fetched from elsewhere."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"\sstyle=|\son[a-z]+=|<style|javascript:|https?://|\|\s*safe", text) == []
    assert re.findall(r"<script(?! src=\"{{ asset)", text) == []
