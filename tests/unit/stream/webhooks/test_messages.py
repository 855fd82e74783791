from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.case_records import AlertAction
from stream.outputs import ForeignRecord, encode_output
from stream.webhooks.messages import Filter, Message, action_message, alert_message
from tests.unit.stream.webhooks.alerts import JANUARY, a_contract, an_alert

ACTION = AlertAction(
    action_id="act-1", alert_id="a", user_id="ann", action="close", status_from="open", status_to="closed",
    level="HIGH", actor="bea", at=JANUARY, version=2, product="card", closed_as="false_alarm",
)  # fmt: skip


def message(*contracts: str | None) -> Message:
    return alert_message(encode_output(an_alert("user-2", 0, contracts=[a_contract(each) for each in contracts])))


def test_a_message_holds_what_the_topic_holds() -> None:
    value = encode_output(an_alert("user-2", 4, "escalated"))
    made = alert_message(value)
    assert (made.message_id, made.user_id, made.level) == ("transition-user-2-4", "user-2", "HIGH")
    assert made.body == alert_message(value).body
    assert json.loads(made.body) == {
        "type": "alert.escalated", "timestamp": "2026-01-05T04:00:00Z", "data": json.loads(value),
    }  # fmt: skip


def test_a_message_of_an_action() -> None:
    value = msgspec.json.encode(ACTION)
    made = action_message(value)
    assert (made.message_id, made.user_id, made.action, made.transition) == ("act-1", "ann", "close", None)
    assert json.loads(made.body) == {
        "type": "case.close", "timestamp": "2026-01-05T00:00:00Z", "data": json.loads(value),
    }  # fmt: skip


@pytest.mark.parametrize("transition_id", ["", "a\r\nX: y", "a b", "é", "x" * 201])
def test_an_id_that_cannot_stand_in_a_header_is_none_of_ours(transition_id: str) -> None:
    with pytest.raises(ForeignRecord, match="an id"):
        alert_message(encode_output(an_alert("user-1", 0, transition_id=transition_id)))


@given(st.binary(max_size=100))
def test_any_bytes_get_an_answer(value: bytes) -> None:
    for decode in (alert_message, action_message):
        with pytest.raises(ForeignRecord):
            decode(value)


def test_the_end_of_a_high_alert_is_told_to_who_asked_for_high() -> None:
    high = Filter(levels=frozenset({"HIGH"}))
    assert high.wants(alert_message(encode_output(an_alert("user-2", 2, "cleared"))), {})
    assert not high.wants(alert_message(encode_output(an_alert("user-1", 2, "cleared"))), {})


def test_kinds_are_told_apart() -> None:
    opened, closed = message("loan"), action_message(msgspec.json.encode(ACTION))
    assert Filter().wants(opened, {})
    assert Filter().wants(closed, {})
    alerts_alone = Filter(actions=frozenset())
    assert (alerts_alone.wants(opened, {}), alerts_alone.wants(closed, {})) == (True, False)
    actions_alone = Filter(transitions=frozenset(), actions=frozenset({"close"}))
    assert (actions_alone.wants(opened, {}), actions_alone.wants(closed, {})) == (False, True)
    assert not Filter(actions=frozenset({"note"})).wants(closed, {})
    assert not Filter(products=frozenset({"mortgage"})).wants(closed, {})


@pytest.mark.parametrize(
    ("products", "wanted"),
    [
        ({"loan": "mortgage", "visa": "card"}, True),
        ({"loan": "mortgage", "visa": "overdraft"}, False),
        ({"loan": "mortgage"}, True),  # of visa nothing is known
        ({"loan": "mortgage", "visa": None}, True),
        ({}, True),
    ],
)
def test_a_product_that_is_not_known_is_no_reason_to_keep_silent(products: dict[str, str | None], wanted: bool) -> None:
    assert Filter(products=frozenset({"card"})).wants(message("loan", "visa"), products) is wanted


def test_an_alert_without_contracts_passes_and_the_unnamed_one_has_a_product() -> None:
    card = Filter(products=frozenset({"card"}))
    assert card.wants(message(), {})
    assert card.wants(message(None), {"": "card"})
    assert not card.wants(message(None), {"": "loan"})
