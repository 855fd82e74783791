"""The `bench` command: measures, writes JSON, and renders what was measured into pictures and documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError as AioKafkaError
from kafka.errors import KafkaError
from rich.status import Status

from foreshock.options import AsJson, Report, takes_settings
from foreshock.tables import Column, Table
from foreshock.terminal import console, errors, fail, print_json, styled, tell
from model.bundle import Bundle, BundleError
from stream.embedded.server import EmbeddedError
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError
from stream.settings import Settings

TEXT_COLUMN = 5
"""From this column on, tables of measurements hold text."""


class BenchName(StrEnum):
    """What can be asked of `foreshock bench`: a measurement, all of them, or one of the things around them."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    HISTORY = "history"
    USERS = "users"
    RECOVERY = "recovery"
    WORKERS = "workers"
    API = "api"
    DESK = "desk"
    OVERLOAD = "overload"
    REPLAY = "replay"
    HAND_OVER = "hand-over"
    ALL = "all"
    PEERS = "peers"
    REPORT = "report"


@takes_settings("bootstrap_servers", "bundle", "stack_dir")
def bench(
    *,
    settings: Settings,
    name: Annotated[
        BenchName,
        typer.Argument(
            metavar="NAME",
            help="A measurement; `all` of them; `peers` installs the other frameworks in an environment of their own; "
            "`report` writes the tables and pictures again from the results.",
        ),
    ] = BenchName.THROUGHPUT,
    events: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Events of a round; for `history`, of a user; for `desk`, open alerts.",
            show_default="per bench",
        ),
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Users; for `users` and `recovery`, the most.", show_default="per bench")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            help="Longest time for a slow contender; for `latency`, time of each rate, for `hand-over`, the most.",
            show_default="per bench",
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Repetitions.", show_default="per bench")] = None,
    report: Report = None,
    report_dir: Annotated[
        Path | None, typer.Option("--report-dir", help="Folder of the results, a JSON file and a picture of each.")
    ] = None,
    docs_dir: Annotated[Path, typer.Option(help="Documents that `report` brings up to date.")] = Path("docs"),
    as_json: AsJson = False,
) -> None:
    """Measure Foreshock beside other ways to do the same.

    Uses an embedded broker or your own; topics are made for the measurement and deleted again. Figures mean little on
    a machine that does other work.

        foreshock bench throughput --events 20000
    """
    from bench.peers import PeersError, install
    from bench.rendering import RenderingError, render
    from model.presentation.sections import SectionError

    try:
        if name is BenchName.PEERS:
            with errors.status("") as status:
                install(settings.stack_dir, lambda text: status.update(styled(text)))
            return
        if name is BenchName.REPORT:
            paths = [str(path) for path in render(report_dir or Path("bench/results"), docs_dir)]
            tell(as_json, paths, *paths)
            return
    except (PeersError, RenderingError, SectionError) as error:
        fail(str(error))
    asked = {"events": events, "users": users, "seconds": seconds, "rounds": rounds}
    sizes = {key: value for key, value in asked.items() if value is not None}
    _measure(name, settings, sizes, report, report_dir, as_json=as_json)


def _measure(
    name: BenchName,
    settings: Settings,
    sizes: dict[str, Any],
    report: Path | None,
    report_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    from bench.arena import BenchError
    from bench.rendering import draw
    from bench.suite import MEASUREMENTS, broker, measure, result_bytes

    names = list(MEASUREMENTS) if name is BenchName.ALL else [name.value]
    if report is not None and len(names) > 1:
        fail("--report is for one measurement; use --report-dir for all of them", code=2)
    try:
        Bundle.load(settings.bundle, settings.bundle_public_key)
        with (
            errors.status("starting Kafka …") as status,
            broker(KafkaConnection.from_settings(settings), names, _teller(status, "")) as kafka,
        ):
            for each in names:
                wanted = replace(MEASUREMENTS[each].sizes, **sizes)
                result = measure(each, kafka, settings, wanted, _teller(status, f"{each}: "))
                if report is not None:
                    report.write_bytes(result_bytes(result))
                if report_dir is not None:
                    report_dir.mkdir(parents=True, exist_ok=True)
                    (report_dir / f"{each}.json").write_bytes(result_bytes(result))
                    draw(result, report_dir)
                if as_json:
                    print_json(result, one_line=len(names) > 1)
                else:
                    console.print(table_of(result))
    except (BenchError, BundleError, EmbeddedError, ProvisioningError) as error:
        fail(str(error))
    except (AioKafkaError, KafkaError) as error:
        fail(f"the broker failed: {error!r}; is it up, and has it room?")
    except KeyboardInterrupt:
        errors.print("interrupted; stopping what was started")
        raise typer.Exit(130) from None


def table_of(result: dict[str, Any]) -> Table:
    """The figures of a measurement; what a row says in words stands in the last column."""
    from bench.rendering import TABLES

    header, rows = TABLES[result["bench"]](result)
    last = len(header) - 1
    columns = (
        Column(heading, numeric=0 < number < TEXT_COLUMN, prose=number == last and number >= TEXT_COLUMN)
        for number, heading in enumerate(header)
    )
    table = Table(*columns, title=f"bench {result['bench']}")
    for row in rows:
        table.add_row(*row)
    return table


def _teller(status: Status, prefix: str) -> Callable[[str], None]:
    return lambda text: status.update(styled(f"{prefix}{text} …"))
