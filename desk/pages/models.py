"""What an operator decides about models on the page: approve, call champion or challenger, retire.

The registry says what is legal (`stream.database.registry`), as for the commands, and notes who did it and why. Which
model scores is not changed by any of this: that is a hand-over (`desk.pages.hand_over`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from fastapi import HTTPException

from desk.context import Desk
from desk.pages.language import Language
from desk.pages.rendering import shown
from stream.database import registry
from stream.database.registry import Decider, RegisteredModel, RegistryError, Step

LONGEST_REASON = 2_000
MOST_FORM_REASON = 8 * LONGEST_REASON
"""What a form takes, so that a reason that is too long is refused with a word, and still stands there."""

STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True)
class Decidable:
    """A model about which something may be decided now; `note` says why it may not be approved by who looks."""

    fingerprint: str
    name: str
    standing: str
    steps: tuple[Step, ...]
    note: str = ""


@dataclass(frozen=True)
class Typed:
    """What was written about a model and could not be noted."""

    fingerprint: str = ""
    reason: str = ""


NOTHING = Typed()


class NotDecided(Exception):
    """Nothing was decided; the message says why, in the page's language."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def decidable(desk: Desk, actor: str, say: Language) -> list[Decidable]:
    """The models in the order of the registry, but those about which nothing is left to decide."""
    found = []
    for model in registry.registered(desk.database):
        possible = registry.steps(model, actor, desk.settings.approval)
        note = _own(model, say) if _is_for_another(desk, model, actor) else ""
        if possible:
            found.append(Decidable(model.fingerprint, shown(model.name), model.standing, possible, note))
    return found


def decide(
    desk: Desk, actor: str, fingerprint: str, step: Step, reason: str, standing: str, say: Language
) -> RegisteredModel:
    """Decide about a model that was shown as `standing`; returns it as it stands then. Raises `NotDecided`."""
    reason = reason.replace("\r\n", "\n").strip()
    if not reason:
        raise NotDecided(422, say.t("case.refused", why=say.t("case.needs_reason")))
    if len(reason) > LONGEST_REASON or "\x00" in reason:
        raise NotDecided(422, say.t("case.refused", why=say.t("case.long_reason", most=LONGEST_REASON)))
    _require_standing(_known(desk, fingerprint), standing, say)
    try:
        return registry.take_step(
            desk.database, fingerprint, step, Decider(actor, reason, signed_in=True), desk.settings.approval
        )
    except RegistryError as error:
        now = _known(desk, fingerprint)
        _require_standing(now, standing, say)
        own = step == "approve" and _is_for_another(desk, now, actor)
        raise NotDecided(409, _own(now, say) if own else say.t("case.refused", why=str(error))) from error


def _require_standing(model: RegisteredModel, standing: str, say: Language) -> None:
    if model.standing != standing:
        raise NotDecided(409, say.t("operations.moved", standing=say.t(f"model.{model.standing}")))


def _is_for_another(desk: Desk, model: RegisteredModel, actor: str) -> bool:
    """Whether another person has to approve the model."""
    waits = model.status == "registered"
    return waits and desk.settings.approval == "four-eyes" and registry.is_registrar(model, actor)


def _own(model: RegisteredModel, say: Language) -> str:
    return say.t("operations.own_model", who=shown(model.registered_by))


def _known(desk: Desk, fingerprint: str) -> RegisteredModel:
    """The model of a whole fingerprint: a beginning of one is for who types."""
    found = next((one for one in registry.registered(desk.database) if one.fingerprint == fingerprint), None)
    if found is None:
        raise HTTPException(404)
    return found
