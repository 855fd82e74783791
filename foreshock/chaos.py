"""The `chaos` command: seeded runs in which workers are killed and frozen, judged by an oracle."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from aiokafka.errors import KafkaError as AioKafkaError
from kafka.errors import KafkaError

from bench.chaos.report import faults, summary
from foreshock.options import Report, takes_settings
from foreshock.terminal import console, fail, styled
from model.bundle import Bundle, BundleError
from stream.embedded.server import EmbeddedError
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError
from stream.settings import Settings


@takes_settings("bootstrap_servers", "bundle", "stack_dir", "log_format")
def chaos(
    *,
    settings: Settings,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs, with seeds one after another.")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first run. A seed repeats its plan.")] = 1,
    events: Annotated[int, typer.Option(min=100, help="Events of each run.")] = 6_000,
    report: Report = None,
) -> None:
    """Kill and freeze workers under live events, and judge them.

    An oracle computes from the inputs every score, alert and state that there must be.

    Uses an embedded broker or your own; topics are made for each run and deleted again. Exit code 1 when anything was
    lost, wrong or there twice for a reader of committed records. A run takes about a minute.

        foreshock chaos --seeds 1 --first-seed 17
    """
    from bench.chaos.plan import Plan
    from bench.chaos.run import run
    from bench.suite import any_broker

    outcomes: list[dict[str, Any]] = []
    try:
        Bundle.load(settings.bundle, settings.bundle_public_key)
        with (
            tempfile.TemporaryDirectory(prefix="foreshock-chaos-") as folder,
            console.status("starting Kafka …") as status,
            any_broker(KafkaConnection.from_settings(settings), lambda text: status.update(styled(text))) as kafka,
        ):
            for seed in range(first_seed, first_seed + seeds):
                status.update(styled(f"run {len(outcomes) + 1} of {seeds}, seed {seed}"))
                outcome = run(kafka, settings, Plan.of(seed, events), Path(folder), f"chaos-{seed}")
                outcomes.append(outcome.as_report())
                console.print(_line(seed, outcomes[-1]))
                if report is not None:
                    report.write_bytes(msgspec.json.format(msgspec.json.encode(summary(outcomes)), indent=2) + b"\n")
    except (BundleError, EmbeddedError, ProvisioningError) as error:
        fail(str(error))
    except (AioKafkaError, KafkaError) as error:
        fail(f"the broker failed: {error!r}; is it up, and has it room?")
    except KeyboardInterrupt:
        console.print("interrupted; stopping what was started")
        raise typer.Exit(130) from None
    found = summary(outcomes)
    console.print(f"{found['right']} of {found['runs']} runs right; {_counts(found['disturbances'])}")
    raise typer.Exit(0 if found["right"] == found["runs"] else 1)


def _line(seed: int, outcome: dict[str, Any]) -> str:
    verdict = outcome["verdict"]
    lag = "" if outcome["settled"] else ", lag stayed"
    said = "right" if outcome["right"] else f"WRONG {_counts(faults(verdict))}{lag}"
    return (
        f"seed {seed}: {said}; {verdict['inputs']:,} inputs, {verdict['scores']:,} scores, "
        f"{verdict['alerts']:,} alerts; "
        f"{_counts(outcome['disturbances'])}; {outcome['seconds']:.0f} s"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in sorted(counts.items())) or "nothing"
