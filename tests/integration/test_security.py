"""A deployment on a broker with TLS and passwords, and what each wrong certificate, name or password looks like."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)
from typer.testing import CliRunner

from foreshock import app
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.summary import summarise
from stream.embedded.kafka import EmbeddedKafka
from stream.embedded.listeners import MUTUAL, SASL, SSL, SecureListeners
from stream.hand_over.standing import standings
from stream.kafka.clients import aiokafka_producer, open_admin, require_access, started
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import check_topics, create_topics
from stream.kafka.rights import NotAllowed, Right, missing_rights
from stream.kafka.security import KafkaSecurity
from stream.least_rights import (
    desk_rights,
    hand_over_rights,
    promotable_shadow_rights,
    publisher_rights,
    replay_rights,
    retention_rights,
    send_back_rights,
    shadow_rights,
    sink_rights,
    status_rights,
    webhook_rights,
    worker_rights,
)
from stream.settings import load_settings
from stream.topics import shadow_application, sink_group
from tests import forked
from tests.unit.stream.kafka.test_token_endpoint import Endpoint, serving

Deploy = Callable[..., Any]

PASSWORD = "correct-horse-battery"
ROLES = ("least-worker", "least-sink", "least-replay", "least-shadow")
OPERATORS = ("least-status", "least-letters", "least-promote", "least-retention")
NAMES = {"least-letters": "dead-letters replay"}
HEIR = "shadow that is to be promoted"
WATCHER = "least-desk"
WATCHES = "desk that shows hand-overs"
POOR = "poor"
"""Users with no more rights than SECURITY.md lists, and one who has all but what a test takes away. `worker` and
those without a name may do everything."""

PAGE = Path(__file__).parents[2] / "SECURITY.md"
NOTICED_S = 30.0
"""Within this time a command, started from nothing, has ended with the reason."""


def written(issued: trustme.LeafCert, path: Path) -> Path:
    """Certificate and key in one file; Kafka reads keys in PKCS #8 only."""
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(encoded + b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return path


class Bank:
    """A broker with secured listeners, and the files of its clients."""

    def __init__(self, folder: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.authority, self.wrong_authority = folder / "ca.pem", folder / "stranger.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        stranger.cert_pem.write_to_path(str(self.wrong_authority))
        self.client = written(authority.issue_cert("worker@bank.example", common_name="worker"), folder / "worker.pem")
        self.wrong_client = written(stranger.issue_cert("worker@bank.example"), folder / "wrong.pem")
        server = written(authority.issue_cert("localhost"), folder / "server.pem")
        self.broker = EmbeddedKafka(
            folder / "kafka",
            secure=SecureListeners(
                server,
                self.authority,
                {"worker": PASSWORD, **dict.fromkeys((*ROLES, *OPERATORS, WATCHER, POOR), PASSWORD)},
                administrators=("User:ANONYMOUS", "User:worker"),
            ),
        )

    def settings(self, listener: str, **others: Any) -> dict[str, Any]:
        """Settings of a client of the listener that does everything right, but for `others`."""
        found: dict[str, Any] = {
            "bootstrap_servers": str(self.broker.secure_address(listener)),
            "security_protocol": "SASL_SSL" if listener == SASL else "SSL",
            "ssl_cafile": str(self.authority),
        }
        if listener == SASL:
            found |= {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "worker", "sasl_password": PASSWORD}
        if listener == MUTUAL:
            found["ssl_certfile"] = str(self.client)
        return {name: value for name, value in (found | others).items() if value is not None}

    def elsewhere(self, listener: str) -> str:
        """The listener by a name that its certificate does not hold."""
        return f"127.0.0.1:{self.broker.secure_address(listener).port}"


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    made = Bank(tmp_path_factory.mktemp("bank"))
    try:
        made.broker.start()
        yield made
    finally:
        made.broker.stop()


def foreshock(settings: Mapping[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command whose settings come from the environment, so that no secret is in the list of processes."""
    variables = {f"FORESHOCK_{name.upper()}": str(value) for name, value in settings.items()}
    return forked.run(arguments, environment={**os.environ, "COLUMNS": "2000", **variables})


def said(result: subprocess.CompletedProcess[str]) -> str:
    return " ".join((result.stdout + result.stderr).split())


@pytest.mark.slow
@pytest.mark.parametrize("listener", [SASL, MUTUAL])
def test_a_whole_deployment(
    bank: Bank, deploy_on: Deploy, database: DatabaseConnection, listener: str, tmp_path: Path
) -> None:
    """Topics are made, events scored, states recovered, tables written and a range replayed, each by its command."""
    options = bank.settings(listener, log_level="debug")
    kafka = KafkaConnection.from_settings(load_settings(**options))
    assert kafka is not None
    address = options.pop("bootstrap_servers")
    deployment = deploy_on(kafka, database_url=database.url, **options)
    settings = {**deployment.options, "bootstrap_servers": address}
    migration.upgrade(database)
    assert foreshock(settings, "topics", "create").returncode == 0

    events = list(open_dataset("simulator", users=15, months=6, seed=3).events())
    half = len(events) // 2
    deployment.publish(events[:half])
    with deployment.running("worker", "first") as worker:
        deployment.wait_until_scored(worker)
        deployment.kill(worker)
        deployment.publish(events[half:])
    with deployment.running("worker", "second") as worker:
        deployment.wait_until_scored(worker)
        log = (tmp_path / "second.log").read_text()
    assert "recovery goes on record by record" not in log, "the changelog's own reader must take this way too"
    assert deployment.differences() == ""

    with deployment.running("sink") as sink:
        outputs = (
            deployment.topics.scores,
            deployment.topics.alerts,
            deployment.topics.contracts,
            deployment.topics.dead_letters,
        )
        group = sink_group(deployment.settings.application_id)
        deployment.wait(
            lambda: bool(deployment.committed(group, outputs) == deployment.size(*outputs)), "storing", sink
        )
    taken = sum(len(deployment.records(topic)) for topic in deployment.topics.inputs)  # those of the watchdog, too
    assert len(events) <= taken <= len(events) + 20
    assert summarise(database).scores == taken

    examined = foreshock(settings, "doctor")
    assert examined.returncode == 0, said(examined)
    assert f"{kafka} answers" in said(examined)
    report = tmp_path / "replay.json"
    whole = ("--from", "2000-01-01", "--to", "2100-01-01")
    assert foreshock(settings, "replay", "run", "all", *whole).returncode == 0
    compared = foreshock(settings, "replay", "diff", "all", "--report", str(report))
    assert compared.returncode == 0, said(compared)
    assert json.loads(report.read_text())["identical_scores"] == taken

    for path in tmp_path.glob("*.log"):
        assert PASSWORD not in path.read_text(), f"{path} repeats the password"
    assert all(PASSWORD not in said(result) for result in (examined, compared))


WRONG: dict[str, tuple[str, Callable[[Bank], dict[str, Any]], tuple[str, ...]]] = {
    "authority": (SSL, lambda bank: {"ssl_cafile": bank.wrong_authority}, ("authority", "ssl_cafile")),
    "system's authorities": (SASL, lambda _: {"ssl_cafile": None}, ("authority", "ssl_cafile")),
    "host name": (SSL, lambda bank: {"bootstrap_servers": bank.elsewhere(SSL)}, ("another host", "ssl_check_hostname")),
    "password": (SASL, lambda _: {"sasl_password": "wrong-horse"}, ("refuses the user", "sasl_password")),
    "user": (SASL, lambda _: {"sasl_username": "nobody"}, ("refuses the user", "sasl_username")),
    "mechanism": (
        SASL,
        lambda _: {
            "sasl_mechanism": "OAUTHBEARER", "oauth_token_command": "echo wrong-horse", "sasl_username": None,
            "sasl_password": None,
        },
        ("refuses the token", "oauth_token_command"),
    ),
    "no client certificate": (
        MUTUAL, lambda _: {"ssl_certfile": None}, ("wants a client certificate", "ssl_certfile"),
    ),
    "client certificate": (
        MUTUAL, lambda bank: {"ssl_certfile": bank.wrong_client}, ("refuses the client certificate", "ssl_certfile"),
    ),
    "no password": (
        SASL, lambda _: {
            "security_protocol": "SSL", "sasl_mechanism": None, "sasl_username": None, "sasl_password": None,
        },
        ("closes the connection", "SASL_SSL"),
    ),
    "no password wanted": (
        SSL, lambda _: {
            "security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p",
        },
        ("uses no SASL", "security_protocol"),
    ),
}  # fmt: skip
"""What is wrong: the listener, the settings that differ, and what must be said."""


@pytest.mark.parametrize("what", WRONG)
def test_the_doctor_says_what_is_wrong(bank: Bank, what: str) -> None:
    from stream.doctor import examine

    listener, differing, words = WRONG[what]
    settings = load_settings(**bank.settings(listener, **differing(bank)))
    begun_s = time.monotonic()
    finding = next(iter(examine(settings, KafkaConnection.from_settings(settings), None)))
    assert (finding.level, finding.subject) == ("error", "broker")
    text = f"{finding.message}; {finding.remedy}"
    assert all(word in text for word in words), text
    assert "horse" not in text
    assert time.monotonic() - begun_s < 10


@pytest.mark.parametrize("command", ["worker", "sink"])
@pytest.mark.parametrize("what", ["authority", "password", "no client certificate"])
def test_a_worker_ends_and_says_what_is_wrong(bank: Bank, command: str, what: str) -> None:
    listener, differing, words = WRONG[what]
    settings = bank.settings(listener, database_url="postgresql://u@127.0.0.1:1/d", **differing(bank))
    begun_s = time.monotonic()
    result = foreshock(settings, command)
    assert result.returncode == 1
    assert all(word in said(result) for word in words), said(result)
    assert "Traceback" not in said(result)
    assert "horse" not in said(result)
    assert time.monotonic() - begun_s < NOTICED_S


def unsecured_token(**claims: object) -> str:
    """A token without a signature, as the broker's listener takes it."""
    parts = ({"alg": "none"}, {"iat": int(time.time()), "exp": int(time.time()) + 3_600, **claims})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def by_token(bank: Bank, endpoint: Endpoint, subject: str) -> dict[str, Any]:
    """Settings of a client that gets its tokens from an endpoint; the broker takes it for `subject`."""
    endpoint.says({"access_token": unsecured_token(sub=subject), "expires_in": 3_600})
    return bank.settings(
        SASL, sasl_mechanism="OAUTHBEARER", sasl_username=None, sasl_password=None,
        sasl_oauthbearer_token_endpoint_url=f"http://127.0.0.1:{endpoint.port}/token",
        sasl_oauthbearer_client_id="foreshock", sasl_oauthbearer_client_secret=PASSWORD,
    )  # fmt: skip


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


async def test_tokens_of_an_endpoint_open_every_kind_of_client(bank: Bank, endpoint: Endpoint) -> None:
    """Our own sockets, kafka-python and aiokafka; Faust's are aiokafka's. The endpoint is asked once."""
    connection = KafkaConnection.from_settings(load_settings(**by_token(bank, endpoint, "worker")))
    assert connection is not None
    require_access(connection)
    open_admin(connection).close()
    async with started(aiokafka_producer(connection), connection):
        assert len(endpoint.asked) == 1


def test_an_endpoint_that_gives_no_token_is_named(bank: Bank, endpoint: Endpoint) -> None:
    settings = by_token(bank, endpoint, "worker")
    endpoint.says({"error": "invalid_client"}, status=401)
    result = foreshock({**settings, "log_format": "json"}, "worker")
    assert result.returncode == 1
    (line,) = (json.loads(line) for line in result.stderr.splitlines())
    assert line["level"] == "CRITICAL"
    assert "/token answers 401 (invalid_client); check sasl_oauthbearer_client_id" in line["message"]
    assert "horse" not in said(result)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_other_ways_to_give_a_password(bank: Bank, mechanism: str) -> None:
    settings = load_settings(**bank.settings(SASL, sasl_mechanism=mechanism))
    connection = KafkaConnection.from_settings(settings)
    assert connection is not None
    open_admin(connection).close()


def test_tls_alone_and_without_the_host_name(bank: Bank) -> None:
    settings = load_settings(**bank.settings(SSL, bootstrap_servers=bank.elsewhere(SSL), ssl_check_hostname=False))
    connection = KafkaConnection.from_settings(settings)
    assert connection is not None
    require_access(connection)


def test_a_plain_client_at_a_secured_listener_is_told_where_to_look(bank: Bank) -> None:
    from stream.doctor import examine

    plain = KafkaConnection((bank.broker.secure_address(SSL),))
    finding = next(iter(examine(load_settings(), plain, None)))
    assert (finding.level, finding.subject) == ("error", "broker")
    assert "security_protocol" in finding.remedy
    with_sasl = dataclasses.replace(plain, security=KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "u", "p"))
    finding = next(iter(examine(load_settings(), with_sasl, None)))
    assert "security_protocol" in f"{finding.message} {finding.remedy}"


def listed(role: str) -> Iterator[tuple[ResourceType, str, ACLOperation]]:
    """The rights of a role, from the table on the page."""
    rows = re.findall(rf"^\| {role} \| (\w[\w ]*) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows, f"SECURITY.md lists no rights of the {role}"
    for kind, names, operations in rows:
        for name in re.findall(r"`([^`]+)`", names):
            for operation in operations.split(", "):
                words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation)
                yield ResourceType[kind.upper().replace(" ", "_")], name, ACLOperation[words.upper()]


def granted(user: str, topic_prefix: str, application_id: str, role: str | None = None) -> Iterator[ACL]:
    """The page names topics without a prefix and the application as it is called by default; `*` ends a prefix."""
    for kind, name, operation in listed(role or NAMES.get(user, user.removeprefix("least-"))):
        whole = name.replace("foreshock", application_id)
        if kind in (ResourceType.TOPIC, ResourceType.TRANSACTIONAL_ID) and whole == name:
            whole = topic_prefix + name
        pattern = ACLResourcePatternType.PREFIXED if name.endswith("*") else ACLResourcePatternType.LITERAL
        resource = ResourcePattern(kind, whole.removesuffix("*"), pattern)
        yield ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, resource)


@pytest.mark.slow
def test_the_least_rights_are_enough(
    bank: Bank, deploy_on: Deploy, database: DatabaseConnection, endpoint: Endpoint
) -> None:
    """The worker's user is one by password, then one by token."""
    deployment = deploy_on(bank.broker.connection, database_url=database.url)
    prefix, application_id = deployment.settings.topic_prefix, deployment.settings.application_id
    admin = open_admin(bank.broker.connection)
    try:
        acls = [acl for role in (*ROLES, *OPERATORS) for acl in granted(role, prefix, application_id)]
        acls += granted("least-shadow", prefix, application_id, HEIR)
        acls += granted(WATCHER, prefix, application_id, WATCHES)
        assert not admin.create_acls(acls)["failed"]
    finally:
        admin.close()
    migration.upgrade(database)
    events = list(open_dataset("simulator", users=15, months=6, seed=3).events())
    half = len(events) // 2
    outputs = (
        deployment.topics.scores,
        deployment.topics.alerts,
        deployment.topics.contracts,
        deployment.topics.dead_letters,
    )

    worker, sink, replay, shadow = (bank.settings(SASL, sasl_username=role) for role in ROLES)
    with_token = by_token(bank, endpoint, "least-worker")
    for name, part, user in (("first", events[:half], worker), ("second", events[half:], with_token)):
        deployment.publish(part)
        if name == "first":
            deployment.send_raw("activity", [(b"u", b"no event")])
        with deployment.running("worker", name, **user) as process:
            deployment.wait_until_scored(process)
    assert deployment.differences() == ""
    with deployment.running("sink", **sink) as process:
        group = sink_group(application_id)
        deployment.wait(lambda: deployment.committed(group, outputs) == deployment.size(*outputs), "storing", process)
    assert summarise(database).scores == len(events)
    settings = {**deployment.options, **replay}
    whole = ("--from", "2000-01-01", "--to", "2100-01-01")
    for arguments in (("run", "all", *whole), ("run", "all", *whole, "--overwrite"), ("diff", "all")):
        result = foreshock(settings, "replay", *arguments)
        assert result.returncode == 0, said(result)
    with deployment.running("shadow run s", "shadow", **shadow) as process:
        group, inputs = shadow_application(application_id, "s"), deployment.topics.inputs
        deployment.wait(lambda: deployment.committed(group, inputs) == deployment.size(*inputs), "shadow", process)
        watcher = KafkaConnection.from_settings(load_settings(**bank.settings(SASL, sasl_username=WATCHER)))
        assert watcher is not None
        (seen,) = standings(watcher, deployment.topics, application_id)
        assert seen.shadow == "s"
        assert seen.onward is not None, seen.why_not_onward
        assert seen.onward.pending == set(range(deployment.settings.partitions))
    for command in ("report", "remove"):
        result = foreshock({**deployment.options, **shadow}, "shadow", command, "s")
        assert result.returncode == 0, said(result)

    looks, sends, promotes, keeps = (
        {**deployment.options, **bank.settings(SASL, sasl_username=role)} for role in OPERATORS
    )
    looked = foreshock(looks, "status", "--interval", "0", "--json")
    assert looked.returncode == 0, said(looked)
    assert {lag["records"] for lag in json.loads(looked.stdout)["lag"]} == {0}
    sent = foreshock(sends, "dead-letters", "replay", "--yes", "--json")
    assert sent.returncode == 0, said(sent)
    assert json.loads(sent.stdout)["sent"] == 1

    for command in ("plan", "apply"):
        done = foreshock(keeps, "retention", command, *(("--yes",) if command == "apply" else ("--json",)))
        assert done.returncode == 0, said(done)
    with (
        deployment.running("worker", "giver", **worker) as giver,
        deployment.running("shadow run s", "taker", **shadow) as taker,
    ):
        deployment.wait_until_scored(giver)
        deployment.wait(lambda: deployment.committed(group, inputs) == deployment.size(*inputs), "shadow", taker)
        handed = foreshock(promotes, "replay", "promote", "s", "--json")
        assert handed.returncode == 0, said(handed)
        before = deployment.size(deployment.topics.scores)
        deployment.publish(list(open_dataset("simulator", users=15, months=1, seed=4).events()))
        deployment.wait(lambda: not giver.alive, "the worker of before to end")
        deployment.wait(lambda: deployment.committed(group, inputs) == deployment.size(*inputs), "the heir", taker)
        assert deployment.size(deployment.topics.scores) > before


def resource_of(right: Right) -> tuple[ResourceType, str, ACLOperation]:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", right.operation)
    return ResourceType[right.kind.upper().replace(" ", "_")], right.name, ACLOperation[words.upper()]


def acl_of(right: Right) -> ACL:
    kind, name, operation = resource_of(right)
    resource = ResourcePattern(kind, name, ACLResourcePatternType.LITERAL)
    return ACL(f"User:{POOR}", "*", operation, ACLPermissionType.ALLOW, resource)


def test_the_page_lists_what_the_parts_ask_for() -> None:
    """`Create` and `Delete`, and the rights on all names with a prefix, are on the page alone."""
    settings = load_settings()
    parts = {
        "worker": worker_rights(settings), "sink": sink_rights(settings), "replay": replay_rights(settings, "r"),
        "desk": desk_rights(settings), "webhooks": webhook_rights(settings), "shadow": shadow_rights(settings, "s"),
        "status": status_rights(settings), "dead-letters replay": send_back_rights(settings),
        "promote": hand_over_rights(settings, "foreshock", "foreshock-shadow-s"),
        HEIR: promotable_shadow_rights(settings), "retention": retention_rights(settings),
    }  # fmt: skip
    for role, rights in parts.items():
        on_the_page = set(listed(role))
        for kind, name, operation in map(resource_of, rights):
            matching = {
                found for found in on_the_page
                if found[0] is kind and (found[1] == name or (found[1][-1] == "*" and name.startswith(found[1][:-1])))
            }  # fmt: skip
            assert any(found[2] is operation for found in matching), f"{role}: {operation} on {name}"
            on_the_page -= {found for found in matching if found[2] is operation and found[1] == name}
        assert all(name.endswith("*") for _, name, _ in on_the_page), f"{role} is given more: {on_the_page}"


class Poor:
    """A user who has all rights of a deployment but those that a test takes away."""

    def __init__(self, bank: Bank, topic_prefix: str) -> None:
        self.settings = {
            **bank.settings(SASL, sasl_username=POOR),
            "topic_prefix": topic_prefix,
            "application_id": f"{topic_prefix}app",
            "database_url": "postgresql://u@127.0.0.1:1/d",
        }
        settings = load_settings(**self.settings)
        connection = KafkaConnection.from_settings(settings)
        assert connection is not None
        create_topics(bank.broker.connection, settings)
        self.connection = connection
        replay = [right for right in replay_rights(settings, "all") if right.operation not in ("Create", "Delete")]
        self.parts = {
            "worker": worker_rights(settings), "sink": sink_rights(settings), "simulate": publisher_rights(settings),
            "replay": tuple(replay),
        }  # fmt: skip
        self.all = tuple(dict.fromkeys(right for rights in self.parts.values() for right in rights))
        self._admin = open_admin(bank.broker.connection)
        self._grant(self.all)

    def _grant(self, rights: Any) -> None:
        assert not self._admin.create_acls([acl_of(right) for right in rights])["failed"]

    @contextmanager
    def without(self, *rights: Right) -> Iterator[None]:
        self._admin.delete_acls([acl_of(right) for right in rights])
        try:
            yield
        finally:
            self._grant(rights)

    @contextmanager
    def given(self, *rights: Right) -> Iterator[None]:
        self._grant(rights)
        try:
            yield
        finally:
            self._admin.delete_acls([acl_of(right) for right in rights])

    def close(self) -> None:
        self._admin.delete_acls([acl_of(right) for right in self.all])
        self._admin.close()

    def lacks(self, rights: Any, expected: list[Right]) -> bool:
        """Whether the broker says so, soon: it learns of changes a little later."""
        deadline_s = time.monotonic() + 10
        while (found := missing_rights(self.connection, rights)) != expected:
            if time.monotonic() > deadline_s:
                raise AssertionError(f"missing are {found}, not {expected}")
            time.sleep(0.05)
        return True


@pytest.fixture(scope="module")
def poor(bank: Bank, new_topic_prefix: Callable[[], str]) -> Iterator[Poor]:
    made = Poor(bank, new_topic_prefix())
    yield made
    made.close()


def test_each_right_that_is_missing_is_found(poor: Poor) -> None:
    for rights in poor.parts.values():
        assert poor.lacks(rights, [])
        for right in rights:
            # Of a topic that is not there yet, what is missing shows when it is made. For the right to write
            # idempotently, Kafka takes that to write to any topic, which this user has.
            is_there = not right.name.endswith((".replay.all", "-replay-all-user_state-changelog"))
            if not is_there or right.operation == "IdempotentWrite":
                continue
            with poor.without(right):
                assert poor.lacks(rights, [right])
                if right.kind == "group" and right.operation == "Read":
                    with poor.given(right._replace(operation="Describe")):
                        assert poor.lacks(rights, [right])
            assert poor.lacks(rights, [])


def test_a_worker_names_the_rights_that_are_missing(poor: Poor) -> None:
    rights = [poor.parts["worker"][0], *poor.parts["worker"][-2:]]
    with poor.without(*rights):
        assert poor.lacks(rights, rights)
        result = foreshock(poor.settings, "worker")
    assert result.returncode == 1
    listed = "; ".join(f"{right.operation} on {right.kind} {right.name}" for right in rights)
    assert f"User:poor lacks the right to {listed}; grant it: kafka-acls" in said(result)
    assert "--operation Read --group" in said(result)
    assert "Traceback" not in said(result)


def test_a_sink_that_may_write_nowhere_is_told(poor: Poor) -> None:
    """Kafka lets a producer have an id who may write to any topic; a sink may to none."""
    writes = [right for right in poor.all if right.operation in ("Write", "IdempotentWrite")]
    with poor.without(*writes):
        idempotent = Right("cluster", "kafka-cluster", "IdempotentWrite")
        assert poor.lacks([idempotent], [idempotent])
        result = foreshock(poor.settings, "sink")
    assert result.returncode == 1
    assert "User:poor lacks the right to IdempotentWrite on cluster kafka-cluster" in said(result)


@pytest.mark.parametrize(
    ("part", "number", "arguments"),
    [
        ("simulate", 1, ("simulate", "--limit", "5")),
        ("replay", 4, ("replay", "run", "all", "--from", "2000-01-01", "--to", "2100-01-01")),
        ("worker", 0, ("doctor",)),
    ],
)
def test_a_command_names_the_right_that_is_missing(
    poor: Poor, part: str, number: int, arguments: tuple[str, ...]
) -> None:
    right = poor.parts[part][number]
    variables = {f"FORESHOCK_{name.upper()}": str(value) for name, value in poor.settings.items()}
    with poor.without(right):
        assert poor.lacks([right], [right])
        result = CliRunner().invoke(app, list(arguments), env=variables)
    assert result.exit_code == 1
    assert f"User:poor lacks the right to {right.operation} on topic {right.name}" in result.output
    assert "kafka-acls --add --allow-principal User:poor --operation" in result.output


def test_topics_that_may_not_be_made_or_seen_are_named(poor: Poor) -> None:
    other = load_settings(**{**poor.settings, "topic_prefix": f"{poor.settings['topic_prefix']}other."})
    with pytest.raises(NotAllowed, match=r"User:poor lacks the right to Create on topic .*other\.repayments"):
        create_topics(poor.connection, other)
    finding, *_ = check_topics(poor.connection, other)
    assert finding.level == "error"
    assert "User:poor lacks the right to Describe on topic" in finding.message
