"""What was done about a case, in words. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from desk.pages.language import Language
from desk.pages.rendering import shown
from stream.case_records import FORESHOCK


@dataclass(frozen=True)
class Done:
    """An action in words, by whom and when; `reason` is what they wrote."""

    said: str
    actor: str
    at: dt.datetime
    reason: str


def done_in_words(action: str, details: Mapping[str, Any], say: Language) -> str:
    """An action with what belongs to it beside its reason: as what, to whom, until when, of how much."""
    said = [say.t(f"done.{action}")]
    if outcome := details.get("closed_as"):
        said.append(say.t("detail.as", outcome=say.t(f"outcome.{outcome}")))
    if assignee := details.get("assignee"):
        said.append(say.t("detail.to", who=shown(assignee)))
    if until := details.get("until"):
        said.append(say.t("detail.until", day=say.minute(dt.datetime.fromisoformat(until))))
    if promise := details.get("promise"):
        amount = say.money(promise["amount"], promise.get("currency"))
        said.append(say.t("detail.promise", amount=amount, day=say.day(dt.date.fromisoformat(promise["due_on"]))))
    return " ".join(said)


def who(say: Language) -> Callable[[str], str]:
    """Names an actor: Foreshock itself by its name, others as they are called."""
    return lambda actor: say.t("app.name") if actor == FORESHOCK else shown(actor)
