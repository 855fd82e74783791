"""What a webhook is told: a message for each transition of an alert and each action on its case, and who wants which.

A message's id is that of what it tells, so one that is sent again has the same id, and its body the same bytes. Does no
I/O.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from stream.case_records import AlertAction
from stream.outputs import LEVELS, Alert, ForeignRecord, Level, OutputDecoder

MESSAGE_ID = re.compile(r"[!-~]{1,200}")
"""What an id may be to stand in a header. Ours are UUIDs; a record may be anybody's."""

ALERT_TYPE, ACTION_TYPE = "alert", "case"
"""How the types of messages begin: `alert.opened`, `case.promise`."""


@dataclass(frozen=True)
class Message:
    """A message for every webhook that wants it. `contracts` are those that an alert names, by which its products are
    found; None where the message says its `products` itself."""

    message_id: str
    user_id: str
    type: str
    occurred_at: dt.datetime
    body: bytes
    level: Level
    transition: str | None = None
    action: str | None = None
    contracts: frozenset[str] | None = None
    products: frozenset[str | None] = frozenset()


_alert = OutputDecoder(Alert)
_action = OutputDecoder(AlertAction)


def alert_message(value: bytes | None) -> Message:
    """Of a record of `alerts`. Its level is the higher of the two that it is between, so that who asked for HIGH alone
    learns of their end. Raises `ForeignRecord`."""
    alert = _alert(value)
    assert value is not None
    kind = f"{ALERT_TYPE}.{alert.kind}"
    level = max(alert.level_from, alert.level_to, key=LEVELS.index)
    return Message(
        message_id=_checked(alert.transition_id),
        user_id=alert.user_id,
        type=kind,
        occurred_at=alert.occurred_at,
        body=_body(kind, alert.occurred_at, value),
        level=level,
        transition=alert.kind,
        contracts=frozenset(each.contract_id or "" for each in alert.contracts),
    )


def action_message(value: bytes | None) -> Message:
    """Of a record of `alert-actions`. Raises `ForeignRecord`."""
    action = _action(value)
    assert value is not None
    kind = f"{ACTION_TYPE}.{action.action}"
    return Message(
        message_id=_checked(action.action_id),
        user_id=action.user_id,
        type=kind,
        occurred_at=action.at,
        body=_body(kind, action.at, value),
        level=action.level,
        action=action.action,
        products=frozenset((action.product,)),
    )


def _checked(message_id: str) -> str:
    if MESSAGE_ID.fullmatch(message_id) is None:
        raise ForeignRecord("an id that cannot stand in a header")
    return message_id


def _body(kind: str, at: dt.datetime, data: bytes) -> bytes:
    """`data` as it was published: a receiver sees what a reader of the topic sees."""
    return b'{"type":%b,"timestamp":%b,"data":%b}' % (msgspec.json.encode(kind), msgspec.json.encode(at), data)


@dataclass(frozen=True)
class Filter:
    """What a webhook wants; None of a kind is everything of it, an empty one nothing."""

    levels: frozenset[str] | None = None
    transitions: frozenset[str] | None = None
    products: frozenset[str] | None = None
    actions: frozenset[str] | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Filter:
        """From the columns of `webhooks`."""
        names = ("levels", "transitions", "products", "actions")
        return cls(*(None if row[name] is None else frozenset(row[name]) for name in names))

    def wants(self, message: Message, products: Mapping[str, str | None]) -> bool:
        """`products` are those of the user's contracts, as far as they are known.

        What is not known is no reason to leave a message out: an alert of which a contract's product is unknown passes.
        """
        kinds, kind = (self.transitions, message.transition)
        if message.action is not None:
            kinds, kind = self.actions, message.action
        if kinds is not None and kind not in kinds:
            return False
        if self.levels is not None and message.level not in self.levels:
            return False
        if self.products is None:
            return True
        known: Collection[str | None] = message.products
        if message.contracts is not None:
            known = {products.get(contract) for contract in message.contracts} or {None}
        return None in known or not self.products.isdisjoint(known)
