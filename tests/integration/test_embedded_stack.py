"""The embedded stack itself: starts, keeps its data, is found again, and leaves nothing behind however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import psycopg
import pytest
from kafka import TopicPartition

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseUnavailable
from stream.embedded.kafka import EmbeddedKafka
from stream.embedded.postgres import PASSWORD_FILE
from stream.embedded.server import EmbeddedError, Identity, StartCancelled, free_ports
from stream.embedded.stack import EmbeddedStack, StackAddress, down, running, up
from stream.kafka.clients import open_admin, open_consumer, open_producer
from stream.kafka.connection import KafkaConnection


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder: what a stack there has left behind."""
    left = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        # Not of the test runner itself, whose command line may name a test and with it the folder.
        if str(folder) in command and process.info["status"] != psutil.STATUS_ZOMBIE and "pytest" not in command[:200]:
            left.append(command)
    return left


@pytest.fixture
def folder(server_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder for a stack; whatever a failed test leaves running there is ended."""
    directory = server_folder / tmp_path.name
    yield directory
    present = running(directory)
    if present is None or present.owner is None or present.owner.process() is None:
        down(directory)


def owner_process(folder: Path) -> subprocess.Popen[str]:
    """Another Python that holds a stack in `folder` until it ends."""
    code = (
        "import sys, time; from pathlib import Path; from stream.embedded.stack import EmbeddedStack\n"
        "with EmbeddedStack(Path(sys.argv[1])): print('up', flush=True); time.sleep(120)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "up\n"
    return process


def all_ended(address: StackAddress) -> bool:
    return all(identity.process() is None for identity in address.processes.values())


def test_data_and_address_survive_a_restart(folder: Path) -> None:
    said: list[tuple[str, str]] = []
    with EmbeddedStack(folder, progress=lambda server, doing: said.append((server, doing))) as stack:
        first = stack.address
        assert running(folder) == first
        create_topic(stack.address.kafka)
        send(stack.address.kafka, timestamp_ms=86_400_000)
        with psycopg.connect(stack.address.database.url) as connection:
            connection.execute("CREATE TABLE kept (word text)")
            connection.execute("INSERT INTO kept VALUES ('still here')")
        is_refused(stack.address.database)
        secret = password_of(folder)
        assert secret not in stack.address.database_url
        commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        assert not any(secret in " ".join(command) for command in commands)
    assert running(folder) is None
    assert secret not in "".join(path.read_text() for path in folder.glob("*/server.log"))
    as_an_earlier_release_left_it(folder)
    assert all_ended(first)
    assert processes_of(folder) == []
    assert {server for server, _ in said} == {"Kafka", "PostgreSQL"}

    with EmbeddedStack(folder) as stack:
        assert stack.address.kafka == first.kafka
        assert stack.address.database == first.database
        send(stack.address.kafka, timestamp_ms=int((time.time() + 2 * 86_400) * 1000))
        assert read(stack.address.kafka) == [b"event", b"event"]
        with psycopg.connect(stack.address.database.url) as connection:
            assert connection.execute("SELECT word FROM kept").fetchall() == [("still here",)]
        is_refused(stack.address.database)
        assert password_of(folder) != secret
    assert processes_of(folder) == []


def password_of(folder: Path) -> str:
    passfile = folder / "postgres" / PASSWORD_FILE
    assert passfile.stat().st_mode & 0o777 == 0o600
    return passfile.read_text().strip().rpartition(":")[2]


def is_refused(database: DatabaseConnection) -> None:
    """The server takes nobody without the right password."""
    bare = database.url.partition("?")[0]
    for words, password in (("no password supplied", ""), ("password authentication failed", "guessed")):
        with pytest.raises(DatabaseUnavailable, match=words):
            DatabaseConnection(bare, password or None).connect()


def as_an_earlier_release_left_it(folder: Path) -> None:
    """A server that trusts every user of the machine, as superuser."""
    (folder / "postgres" / PASSWORD_FILE).unlink()
    (folder / "postgres" / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")


def create_topic(kafka: KafkaConnection) -> None:
    admin = open_admin(kafka)
    admin.create_topics({"some": {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    admin.close()


def send(kafka: KafkaConnection, timestamp_ms: int) -> None:
    """A record with an event time of long ago or of the day after tomorrow: neither may be refused or expire."""
    producer = open_producer(kafka)
    producer.send("some", value=b"event", timestamp_ms=timestamp_ms).get(timeout=20)
    producer.close()


def read(kafka: KafkaConnection) -> list[bytes]:
    consumer = open_consumer(kafka, group_id=None, enable_auto_commit=False)
    partition = TopicPartition("some", 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    values: list[bytes] = []
    while len(values) < end:
        values += [record.value for records in consumer.poll(timeout_ms=500).values() for record in records]
    consumer.close()
    return values


def test_topics_are_not_made_by_accident(kafka: KafkaConnection, topic_prefix: str) -> None:
    consumer = open_consumer(kafka, group_id=None)
    assert not consumer.partitions_for_topic(f"{topic_prefix}never-created")
    assert f"{topic_prefix}never-created" not in consumer.topics()
    consumer.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_servers_end_with_their_owner_and_are_left_alone_before(folder: Path, how: signal.Signals) -> None:
    owner = owner_process(folder)
    address = running(folder)
    assert address is not None
    for act in (up, down, lambda directory: EmbeddedStack(directory).start()):
        with pytest.raises(EmbeddedError, match=f"belongs to process {owner.pid}"):
            act(folder)
    assert running(folder) == address
    owner.send_signal(how)
    owner.wait()
    assert wait_until(lambda: all_ended(address))
    assert wait_until(lambda: processes_of(folder) == [])
    assert running(folder) is None


def test_crashed_stack_starts_again(folder: Path) -> None:
    """After SIGKILL of the servers themselves, the address file is stale and PostgreSQL's own lock file is left."""
    stack = EmbeddedStack(folder)
    address = stack.start()
    for identity in address.processes.values():
        process = identity.process()
        assert process is not None
        process.kill()
    assert wait_until(lambda: all_ended(address))
    stack.stop()
    with EmbeddedStack(folder) as again, again.address.database.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_up_is_found_reused_and_taken_down(folder: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: up(folder), range(2))
    assert first == second == running(folder)
    assert first.owner is None
    with pytest.raises(EmbeddedError, match=r"already runs in .*foreshock down"):
        EmbeddedStack(folder).start()

    postgres = first.processes["PostgreSQL"].process()
    assert postgres is not None
    postgres.kill()
    assert wait_until(lambda: running(folder) is None)
    healed = up(folder)
    assert first.processes["Kafka"].process() is None
    assert running(folder) == healed

    assert down(folder)
    assert all_ended(healed)
    assert processes_of(folder) == []
    assert not down(folder)


def test_failure_of_one_server_stops_the_other(folder: Path) -> None:
    folder.mkdir()
    (folder / "kafka").write_text("in the way")
    with pytest.raises(OSError, match="kafka"):
        EmbeddedStack(folder).start()
    assert processes_of(folder) == []
    assert running(folder) is None


def test_start_of_the_broker_can_be_cancelled(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka")
    cancelled = threading.Event()
    with pytest.raises(StartCancelled):
        broker.start(lambda doing: cancelled.set() if doing == "starting the broker" else None, cancelled)
    assert processes_of(tmp_path) == []


def test_port_taken_meanwhile_is_another_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kafka: KafkaConnection
) -> None:
    """Between choosing a port and binding it, another program may take it: here, the session's broker has it."""
    taken = kafka.addresses[0].port
    attempts: list[list[int]] = []

    def choose(count: int, _preferred: Sequence[int] = ()) -> list[int]:
        attempts.append([taken, *free_ports(1)] if not attempts else free_ports(count))
        return attempts[-1]

    monkeypatch.setattr("stream.embedded.kafka.free_ports", choose)
    broker = EmbeddedKafka(tmp_path / "kafka")
    try:
        assert broker.start().addresses[0].port == attempts[1][0]
    finally:
        broker.stop()


def test_no_room_on_the_disk_is_said_before_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.embedded.kafka.DISK_MIN_BYTES", 1 << 60)
    with pytest.raises(EmbeddedError, match=r"MB free and Kafka needs .*--stack-dir"):
        EmbeddedKafka(tmp_path / "kafka").start()


def test_jars_that_cannot_be_fetched_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2_REPO", str(tmp_path / "empty"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(EmbeddedError, match=r"jars .* could not be fetched.*--bootstrap-servers"):
        EmbeddedKafka(tmp_path / "kafka").start()


def test_file_that_is_no_address_is_not_believed(folder: Path) -> None:
    folder.mkdir()
    (folder / "stack.json").write_text("{half a fi")
    assert running(folder) is None
    assert not down(folder)
    gone = Identity(pid=2**22 - 1, created_s=1.0)
    address = StackAddress(bootstrap_servers="127.0.0.1:1", database_url="postgresql:///", processes={"Kafka": gone})
    (folder / "stack.json").write_bytes(msgspec.json.encode(address))
    assert running(folder) is None
