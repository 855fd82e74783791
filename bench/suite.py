"""Every measurement by name with its default sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench import api, desk, hand_over, history, latency, overload, recovery, replay, throughput, users, workers
from bench.environment import Environment, ProcessorTime
from bench.options import Bench, Sizes
from bench.peers import python_of
from model.bundle import Bundle
from stream.embedded.kafka import EmbeddedKafka
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError, reachable
from stream.settings import Settings

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """`measure` takes the measurement; `broker` says whether it needs one."""

    measure: Callable[[Bench], dict[str, Any]]
    sizes: Sizes
    broker: bool = True


MEASUREMENTS: dict[str, Measurement] = {
    "throughput": Measurement(throughput.measure, Sizes(events=240_000, users=10_000, seconds=10.0, rounds=7)),
    "latency": Measurement(latency.measure, Sizes(events=0, users=10_000, seconds=15.0, rounds=3)),
    "history": Measurement(history.measure, Sizes(events=10_000, users=128, seconds=0.0, rounds=3), broker=False),
    "users": Measurement(users.measure, Sizes(events=0, users=1_000_000, seconds=0.0, rounds=2), broker=False),
    "recovery": Measurement(recovery.measure, Sizes(events=200_000, users=300_000, seconds=0.0, rounds=2)),
    "workers": Measurement(workers.measure, Sizes(events=240_000, users=10_000, seconds=0.0, rounds=5)),
    "api": Measurement(api.measure, Sizes(events=0, users=100_000, seconds=15.0, rounds=3)),
    "desk": Measurement(desk.measure, Sizes(events=100_000, users=1_000_000, seconds=0.0, rounds=50), broker=False),
    "overload": Measurement(overload.measure, Sizes(events=150_000, users=10_000, seconds=8.0, rounds=3)),
    "replay": Measurement(replay.measure, Sizes(events=150_000, users=6_250, seconds=0.0, rounds=2)),
    "hand-over": Measurement(hand_over.measure, Sizes(events=0, users=6_000, seconds=60.0, rounds=2)),
}


@contextmanager
def broker(kafka: KafkaConnection | None, names: list[str], tell: Tell) -> Iterator[KafkaConnection | None]:
    """The broker to measure on: the caller's, or an embedded one that runs as long as the context does; None if none is
    needed.

    Raises `ProvisioningError` when the caller's does not answer, or takes no plain text where that is needed.
    """
    if not any(MEASUREMENTS[name].broker for name in names):
        yield None
        return
    if kafka is not None and "throughput" in names and kafka.security.protocol != "PLAINTEXT":
        raise ProvisioningError(
            f"security_protocol: is {kafka.security.protocol}, but the programs that `bench throughput` compares with "
            "take PLAINTEXT only; use such a broker, or the embedded one"
        )
    with any_broker(kafka, tell) as found:
        yield found


@contextmanager
def any_broker(kafka: KafkaConnection | None, tell: Tell) -> Iterator[KafkaConnection]:
    """The caller's broker, or an embedded one that runs as long as the context does.

    Raises `ProvisioningError` when the caller's does not answer.
    """
    if kafka is not None:
        reachable(kafka)
        yield kafka
        return
    with tempfile.TemporaryDirectory(prefix="foreshock-bench-") as folder:
        embedded = EmbeddedKafka(Path(folder) / "kafka", heap_mb=1_024)
        try:
            yield embedded.start(lambda doing: tell(f"Kafka: {doing}"))
        finally:
            embedded.stop()


def measure(name: str, kafka: KafkaConnection | None, settings: Settings, sizes: Sizes, tell: Tell) -> dict[str, Any]:
    """Take one measurement; returns its figures with the environment and the sizes beside them.

    `stolen_share` is the share of the processors that other tenants of the machine got meanwhile.
    """
    measurement = MEASUREMENTS[name]
    bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
    environment = Environment.of_this_machine(bundle.fingerprint_hex)
    with tempfile.TemporaryDirectory(prefix="foreshock-bench-") as folder:
        bench = Bench(
            kafka=kafka,
            settings=settings,
            bundle=bundle,
            sizes=sizes,
            folder=Path(folder),
            peers_python=python_of(settings.stack_dir),
            tell=tell,
        )
        begin = ProcessorTime.now()
        figures = measurement.measure(bench)
        stolen_share = round(ProcessorTime.now().stolen_share_since(begin), 4)
    return {
        "bench": name,
        **figures,
        "rounds_taken": sizes.rounds,
        "stolen_share": stolen_share,
        "environment": msgspec.to_builtins(environment),
    }


def result_bytes(result: dict[str, Any]) -> bytes:
    """A result as indented JSON, as it is written to a file."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
