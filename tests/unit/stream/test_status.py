"""Rates from two samples, and groups from what a client library says of them. Servers: see the integration tests."""

from __future__ import annotations

import pytest
from faust.types import TP
from kafka import TopicPartition

from stream.kafka.connection import KafkaConnection
from stream.kafka.lineage import Committed
from stream.settings import Settings
from stream.status import Group, Member, Observer, Sample, Trouble, group_of, rates, standings

FIRST, SECOND, OTHER = TopicPartition("scores", 0), TopicPartition("scores", 1), TopicPartition("alerts", 0)


def test_rates_are_of_one_topic_over_all_its_partitions() -> None:
    before = Sample(10.0, {FIRST: 100, SECOND: 50, OTHER: 1}, {"sink": {FIRST: 90, SECOND: 50, OTHER: 1}})
    now = Sample(12.0, {FIRST: 120, SECOND: 60, OTHER: 900}, {"sink": {FIRST: 110, SECOND: 50, OTHER: 900}})
    assert rates(before, now, "sink", "scores") == (15.0, 10.0)


def test_what_is_new_has_no_rate_yet() -> None:
    before = Sample(10.0, {FIRST: 100}, {"sink": {}})
    now = Sample(12.0, {FIRST: 120, SECOND: 1_000}, {"sink": {FIRST: 120}})
    assert rates(before, now, "sink", "scores") == (10.0, None)
    assert rates(before, before, "sink", "scores") == (None, None)
    assert rates(before, now, "nobody", "scores") == (10.0, None)


def test_members_have_the_numbers_of_their_partitions() -> None:
    described = {
        "error": None,
        "group_state": "Stable",
        "members": [
            {
                "client_id": "foreshock",
                "member_id": "foreshock-1",
                "client_host": "/10.0.0.1",
                "member_assignment": {
                    "assigned_partitions": [
                        {"topic": "activity", "partitions": [3, 1]},
                        {"topic": "profiles", "partitions": [1, 3]},
                    ]
                },
            },
            {"client_id": "", "member_id": "m", "client_host": "/10.0.0.2", "member_assignment": b""},
        ],
    }
    assert group_of("g", described) == Group(
        "g", "Stable", (Member("m", "/10.0.0.2", ()), Member("foreshock", "/10.0.0.1", (1, 3)))
    )
    assert group_of("g", {"error": "denied", "group_state": "", "members": []}).state == "denied"
    unknown = "[Error 69] GroupIdNotFoundError: Group g not found."
    assert group_of("g", {"error": unknown, "group_state": "Dead", "members": []}).state == "not there"


def test_hand_overs_are_told_by_partition() -> None:
    committed = {
        TP("repayments", 0): Committed(7, "a,b,handed-over=new,changelog=3"),
        TP("activity", 0): Committed(7, "a,b,handed-over=new,changelog=3"),
        TP("repayments", 1): Committed(7, "a,b,following=old,changelog=3"),
        TP("repayments", 2): Committed(7, "a,b,changelog=3"),
        TP("repayments", 3): Committed(7, "a,b,handed-over=new"),
    }
    assert standings(committed) == {"handed_to": {"new": (0, 3)}, "follows": {"old": (1,)}}
    assert standings({}) == {"handed_to": {}, "follows": {}}


@pytest.mark.parametrize("kafka", [None, KafkaConnection.parse("127.0.0.1:1")])
def test_what_cannot_be_reached_is_shown_as_such(kafka: KafkaConnection | None) -> None:
    observer = Observer(Settings(), kafka, None)
    observer.sample()
    found = observer.look()
    assert isinstance(found.cluster, Trouble)
    assert isinstance(found.lag, Trouble)
    assert isinstance(found.refusals, Trouble)
    assert found.database is None
    assert found.troubled
    assert ("127.0.0.1:1" in found.cluster.trouble) == (kafka is not None)
