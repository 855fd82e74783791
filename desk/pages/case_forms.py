"""What the forms of a case say, as the action that it comes to. Pure: the time is an argument.

Says in the page's language what a form lacks; what the life of a case does not allow is `desk.cases.life`'s to say.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy import RowMapping

from desk.access.principals import Principal
from desk.cases.actions import Asked
from desk.cases.life import EXPLAINED, LONGEST_REASON, CaseState, needs_review
from desk.cases.queue import QueuedCase
from desk.cases.rules import CaseRules
from desk.pages.language import Language, NoNumber
from stream.case_records import DISPOSITIONS, CaseAction, Disposition, PromisedPayment

ONE_CLICK: tuple[CaseAction, ...] = ("acknowledge", "start", "wake", "unassign")
"""Actions that have nothing to say and are a button."""

CHANNELS = ("phone", "letter", "email", "visit")
"""How a borrower was reached."""

_REASON_NEEDED: frozenset[CaseAction] = frozenset({"note", "reject", "reopen", "withdraw_promise"})


class Refused(ValueError):
    """A form lacks something; the message says in the page's language what."""


def asked_of(
    action: CaseAction,
    typed: Mapping[str, str],
    case: QueuedCase,
    contracts: Sequence[RowMapping],
    principal: Principal,
    say: Language,
    now: dt.datetime,
    rules: CaseRules,
) -> Asked:
    """The action that a form asks for. Raises `Refused`."""
    reason = typed.get("reason", "").replace("\r\n", "\n").strip()
    if len(reason) > LONGEST_REASON or "\x00" in reason:
        raise Refused(say.t("case.long_reason", most=LONGEST_REASON))
    if action in _REASON_NEEDED and not reason:
        raise Refused(say.t("case.needs_reason"))
    disposition = _disposition(action, typed, reason, say)
    if disposition == "false_alarm" and needs_review(
        CaseState(case.status, case.highest_level), disposition, rules.four_eyes
    ):
        action = "request_review" if action == "close" else action
    if action == "contact" and (channel := typed.get("channel", "")) in CHANNELS:
        reason = f"{say.t(f'contact.{channel}')}: {reason}" if reason else say.t(f"contact.{channel}")
    return Asked(
        alert_id=case.alert_id,
        action=action,
        version=_version(typed, say),
        action_id=_action_id(typed),
        reason=reason,
        disposition=disposition,
        assignee=(typed.get("assignee") or principal.actor) if action == "assign" else None,
        until=_until(typed, say, now, rules) if action == "snooze" else None,
        promise=_promise(typed, contracts, say, now, rules) if action == "promise" else None,
        promise_id=typed.get("promise_id") if action == "withdraw_promise" else None,
    )


def _version(typed: Mapping[str, str], say: Language) -> int:
    version = typed.get("version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise Refused(say.t("problem.form"))
    return int(version)


def _action_id(typed: Mapping[str, str]) -> uuid.UUID | None:
    try:
        return uuid.UUID(typed.get("action_id", ""))
    except ValueError:
        return None


def _disposition(action: CaseAction, typed: Mapping[str, str], reason: str, say: Language) -> Disposition | None:
    if action not in ("close", "request_review"):
        return None
    found = next((one for one in DISPOSITIONS if one == typed.get("closed_as")), None)
    if found is None:
        raise Refused(say.t("case.needs_outcome"))
    if not reason and (found in EXPLAINED or action == "request_review"):
        raise Refused(say.t("case.needs_reason"))
    return found


def _day(text: str, say: Language) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise Refused(say.t("case.needs_day")) from None


def _until(typed: Mapping[str, str], say: Language, now: dt.datetime, rules: CaseRules) -> dt.datetime:
    """The morning of the chosen day."""
    day = _day(typed.get("until", ""), say)
    if not rules.today(now) < day or day.year > 9_000:
        raise Refused(say.t("case.day_past"))
    return rules.start_of(day)


def _promise(
    typed: Mapping[str, str],
    contracts: Sequence[RowMapping],
    say: Language,
    now: dt.datetime,
    rules: CaseRules,
) -> PromisedPayment:
    try:
        amount = say.parsed(typed.get("amount", ""))
    except NoNumber:
        raise Refused(say.t("case.needs_amount")) from None
    if not amount > 0:
        raise Refused(say.t("case.needs_amount"))
    due_on = _day(typed.get("due_on", ""), say)
    if due_on < rules.today(now):
        raise Refused(say.t("case.day_past"))
    contract = typed.get("contract") or None
    known = {one["contract_id"]: one["currency"] for one in contracts}
    if contract is not None and contract not in known:
        raise Refused(say.t("case.unknown_contract"))
    currencies = {known[contract]} if contract is not None else set(known.values())
    currency = next(iter(currencies)) if len(currencies) == 1 else None
    return PromisedPayment(amount=amount, due_on=due_on, contract_id=contract, currency=currency)
