"""Rights: how a missing one is put into words, from what a broker or a client library says."""

from __future__ import annotations

import aiokafka.errors
import kafka.errors
import pytest

from stream.kafka.connection import KafkaConnection
from stream.kafka.rights import NotAllowed, Right, denial, grant_of, not_allowed
from stream.kafka.security import KafkaSecurity

WORKER = KafkaConnection.parse("127.0.0.1:1")
NAMED = KafkaConnection(WORKER.addresses, security=KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", "worker", "p"))


def test_each_right_is_named_with_how_to_grant_it() -> None:
    said = str(
        not_allowed(
            NAMED,
            [
                Right("topic", "scores", "Read"),
                Right("topic", "scores", "Write"),
                Right("transactional id", "app-0-0", "Write"),
                Right("cluster", "kafka-cluster", "IdempotentWrite"),
            ],
        )
    )
    assert said.startswith("127.0.0.1:1: User:worker lacks the right to Read on topic scores; Write on topic scores; ")
    assert "kafka-acls --add --allow-principal User:worker --operation Read --operation Write --topic scores;" in said
    assert "--operation Write --transactional-id app-0-0;" in said
    assert said.endswith("--operation IdempotentWrite --cluster")


@pytest.mark.parametrize(
    ("security", "principal"),
    [
        (KafkaSecurity(), "User:ANONYMOUS"),
        (KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "ann", "p"), "User:ann"),
        (KafkaSecurity("SASL_SSL", "OAUTHBEARER", token_command="x"), "User:<the token's subject>"),
    ],
)
def test_the_principal_is_who_the_broker_sees(security: KafkaSecurity, principal: str) -> None:
    assert security.principal == principal
    assert principal in grant_of(principal, "group", "g", ["Read"])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (aiokafka.errors.TopicAuthorizationFailedError("scores"), "Read or Write on topic scores"),
        (aiokafka.errors.TopicAuthorizationFailedError({"b", "a"}), "Read or Write on topic a, b"),
        (aiokafka.errors.GroupAuthorizationFailedError("app"), "Read on group app"),
        (aiokafka.errors.TransactionalIdAuthorizationFailed("app-0-0"), "Write on transactional id app-0-0"),
        (aiokafka.errors.ClusterAuthorizationFailedError(), "IdempotentWrite on cluster kafka-cluster"),
        (kafka.errors.GroupAuthorizationFailedError(), "Read on group (not named by the broker)"),
    ],
)
def test_an_error_of_a_library_is_put_into_words(error: Exception, words: str) -> None:
    found = denial(error, NAMED)
    assert isinstance(found, NotAllowed)
    assert f"User:worker lacks the right to {words}; grant it: kafka-acls" in str(found)


def test_what_was_used_is_named_where_it_is_known() -> None:
    found = denial(kafka.errors.TopicAuthorizationFailedError(), NAMED, Right("topic", "scores", "Delete"))
    assert "lacks the right to Delete on topic scores" in str(found)


@pytest.mark.parametrize("error", [OSError(29, "Illegal seek"), kafka.errors.KafkaTimeoutError(), ValueError("x")])
def test_other_errors_are_about_no_right(error: Exception) -> None:
    assert denial(error, NAMED) is None
