"""docs/asyncapi.yaml is read by a parser of AsyncAPI 3 and says what is true of topics, records and connections.

The parser (asyncapi3) checks the members and types of every object of the document, but follows no reference and takes
any schema. So references, operations, schemas and examples are checked here.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from events.types import FORMATS_VERSION
from foreshock.asyncapi import asyncapi_page
from foreshock.sample_records import sample_records
from stream.kafka.provisioning import specifications
from stream.outputs import LETTER_HEADERS
from stream.settings import SaslMechanism, SecurityProtocol, Settings
from stream.topics import Topics
from tests.unit.foreshock.test_schemas import validator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # names of fields that pydantic has, too
    from asyncapi3.models.asyncapi import AsyncAPI3

PAGE = Path(__file__).resolve().parents[3] / "docs" / "asyncapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PAGE.read_text())
CHANNELS, OPERATIONS, COMPONENTS = DOCUMENT["channels"], DOCUMENT["operations"], DOCUMENT["components"]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def resolved(reference: str, document: Any = None) -> Any:
    """What a reference within the document leads to; `KeyError` when to nothing."""
    assert reference.startswith("#/"), f"{reference} leads out of the document"
    found = DOCUMENT if document is None else document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


def test_the_committed_document_is_what_is_generated() -> None:
    assert PAGE.read_text() == asyncapi_page()


def test_the_parser_reads_it() -> None:
    parsed = AsyncAPI3.model_validate(DOCUMENT)
    assert parsed.asyncapi == "3.0.0"
    assert parsed.info.version == FORMATS_VERSION
    assert parsed.channels is not None
    assert len(parsed.channels) == 10


def _without(*steps: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *path, last = steps
        for step in path:
            document = document[step]
        del document[last]

    return change


def _with(value: object, *steps: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *path, last = steps
        for step in path:
            document = document[step]
        document[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _without("info"),
        _without("info", "version"),
        _without("servers", "ssl", "host"),
        _without("operations", "receive-activity", "channel"),
        _with("read", "operations", "receive-activity", "action"),
        _with([], "operations", "receive-activity", "channel"),
        _with("scores", "channels", "scores", "adress"),
        _with({"kafka": {"partition": 3}}, "channels", "scores", "bindings"),
        _with({"type": "scram"}, "components", "securitySchemes", "plain"),
        _with({}, "channels", "scores.latest"),
        _with("2.6.0", "asyncapi"),
    ],
)
def test_the_parser_refuses_what_is_no_asyncapi_3(change: Callable[[dict[str, Any]], None]) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    with pytest.raises(ValidationError):
        AsyncAPI3.model_validate(document)


def test_every_reference_leads_to_something_in_the_document() -> None:
    found = list(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        assert resolved(reference), reference


def test_messages_of_an_operation_are_those_of_its_channel() -> None:
    for operation in OPERATIONS.values():
        channel = operation["channel"]["$ref"]
        assert channel.startswith("#/channels/")
        own = {f"{channel}/messages/{name}" for name in resolved(channel)["messages"]}
        assert {message["$ref"] for message in operation["messages"]} <= own


def test_it_has_every_topic_and_whether_foreshock_reads_or_writes_it() -> None:
    topics = Topics("{topic_prefix}")
    assert {channel["address"] for channel in CHANNELS.values()} == set(topics.all)
    for action, expected in (("receive", topics.inputs), ("send", {*topics.all} - {*topics.inputs[1:]})):
        found = [one["channel"]["$ref"] for one in OPERATIONS.values() if one["action"] == action]
        assert sorted(resolved(channel)["address"] for channel in found) == sorted(expected)


def test_settings_of_topics_are_those_that_topics_create_gives_them() -> None:
    made = {each.name: each for each in specifications(Settings.model_construct(topic_prefix="{topic_prefix}"))}
    for channel in CHANNELS.values():
        topic, found = made[channel["address"]], channel["bindings"]["kafka"]
        assert found["partitions"] == topic.partitions
        configs = found["topicConfiguration"]
        assert configs["cleanup.policy"] == [topic.configs["cleanup.policy"]]
        for name in ("retention.ms", "delete.retention.ms", "max.message.bytes"):
            assert str(configs.get(name)) == str(topic.configs.get(name))
    compacted = {channel["title"] for channel in CHANNELS.values() if "compact" in str(channel["bindings"])}
    assert compacted == {"profiles", "scores.latest", "contracts"}


def test_schemas_are_json_schemas_of_drafts_that_tools_read() -> None:
    wrappers = [
        message[part]
        for message in COMPONENTS["messages"].values()
        for part in ("payload", "headers")
        if part in message
    ]
    keys = [message["bindings"]["kafka"]["key"] for message in COMPONENTS["messages"].values() if "bindings" in message]
    for schema in [*COMPONENTS["schemas"].values(), *wrappers, *keys]:
        # AsyncAPI's own is draft 7, in which newer keywords would say nothing.
        jsonschema.Draft7Validator.check_schema(schema)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "$defs" not in str(schema)


def test_every_sample_record_is_an_example_and_valid() -> None:
    examples = 0
    for message in COMPONENTS["messages"].values():
        for example in message.get("examples", []):
            for part in ("payload", "headers"):
                if part in message:
                    validator({**message[part], "components": COMPONENTS}).validate(example[part])
            examples += 1
    assert examples == len(sample_records())


@pytest.mark.parametrize("name", ["Score", "Repayment", "dead-letter"])
def test_an_example_that_is_not_valid_is_found(name: str) -> None:
    message = COMPONENTS["messages"][name]
    part = "headers" if name == "dead-letter" else "payload"
    example = dict(message["examples"][0][part])
    del example[next(iter(example))]
    with pytest.raises(jsonschema.ValidationError, match="is a required property"):
        validator({**message[part], "components": COMPONENTS}).validate(example)


def test_keys_tombstones_and_headers() -> None:
    for channel in CHANNELS.values():
        messages = {name: resolved(message["$ref"]) for name, message in channel["messages"].items()}
        tombstones = [name for name, message in messages.items() if message.get("payload") == {"type": "null"}]
        title = channel["title"]
        if title == "profiles":
            assert tombstones == ["forget"]
        elif title in ("scores", "alerts", "scores.latest", "contracts"):
            assert tombstones == ["forgotten"]
            assert messages["forgotten"]["headers"]["required"] == ["foreshock.source"]
        else:
            assert tombstones == []
        for message in messages.values():
            assert title == "dead-letters" or message["bindings"]["kafka"]["key"]["maxLength"] == 128
    assert list(COMPONENTS["schemas"]["DeadLetterHeaders"]["properties"]) == list(LETTER_HEADERS)


def test_connections_are_those_that_settings_allow() -> None:
    schemes = {scheme["type"] for scheme in COMPONENTS["securitySchemes"].values()}
    names = {"SCRAM-SHA-512": "scramSha512", "SCRAM-SHA-256": "scramSha256", "PLAIN": "plain", "OAUTHBEARER": "oauth2"}
    assert schemes == {names[mechanism] for mechanism in get_args(SaslMechanism)} | {"X509"}
    named = re.findall(r"`([A-Z_]+)`", str([server["description"] for server in DOCUMENT["servers"].values()]))
    assert set(named) == set(get_args(SecurityProtocol))
    assert {server["protocol"] for server in DOCUMENT["servers"].values()} == {"kafka", "kafka-secure"}


def test_no_real_host_is_named() -> None:
    assert {server["host"] for server in DOCUMENT["servers"].values()} == {"{host}:{port}"}
    assert set(re.findall(r"://([^/\s'\"]+)", PAGE.read_text())) == {"token-endpoint.example"}
