"""The `status` command: one screen on how a deployment stands."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Group as Screen
from rich.console import RenderableType
from rich.live import Live

from foreshock.options import AsJson, takes_settings
from foreshock.tables import Column, Table, facts_table
from foreshock.terminal import console, print_json, styled
from stream.database.connection import DatabaseConnection
from stream.embedded import stack
from stream.kafka.connection import KafkaConnection
from stream.outputs import moment_of
from stream.settings import Settings
from stream.status import Cluster, Database, Group, Lag, LastAlerts, Observer, Refusals, Scoring, Status, Trouble


@takes_settings("bootstrap_servers", "database_url", "topic_prefix", "application_id", "stack_dir")
def status(
    *,
    settings: Settings,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(min=0, max=3_600, help="Seconds between looks, and over which rates are measured.")
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show groups, lag, last commit, model, alerts, dead letters.

    Works with any Kafka, with rights to read alone; what cannot be reached is shown as such. Exit code 1 if something
    cannot be looked at. With `--watch` and `--json`, one object a line.

        foreshock status --watch --config production.toml
    """
    running = stack.running(settings.stack_dir)
    kafka = KafkaConnection.from_settings(settings) or (None if running is None else running.kafka)
    database = DatabaseConnection.from_settings(settings) or (None if running is None else running.database)
    observer = Observer(settings, kafka, database)
    try:
        if watch:
            _watch(observer, max(interval, 0.5), as_json=as_json)
        if interval:
            observer.sample()
            time.sleep(interval)
        found = observer.look()
    except KeyboardInterrupt:
        raise typer.Exit(0 if watch else 130) from None
    if as_json:
        print_json(found)
    else:
        console.print(screen(found))
    raise typer.Exit(1 if found.troubled else 0)


def _watch(observer: Observer, interval_s: float, *, as_json: bool) -> None:
    """Until it is interrupted. In the place of the screen before, or line by line where no terminal shows it."""
    if as_json:
        while True:
            print_json(observer.look(), one_line=True)
            time.sleep(interval_s)
    while not console.is_terminal:
        console.print(screen(observer.look()))
        time.sleep(interval_s)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(screen(observer.look()), refresh=True)
            time.sleep(interval_s)


def screen(found: Status) -> Screen:
    """The whole status, to be printed."""
    parts: list[RenderableType] = [
        styled(f"{moment_of(found.at_ms):%Y-%m-%d %H:%M:%S} UTC", "bold"),
        facts_table(
            (
                ("brokers", _cluster(found.cluster)),
                ("database", _database(found.database)),
                *_group("workers", found.workers),
                *_group("sink", found.sink),
                *(() if found.webhooks is None else _group("webhooks", found.webhooks)),
                ("scores", _scoring(found.scoring, found.at_ms)),
                ("dead letters", _refusals(found.refusals)),
                ("alerts", _policies(found.alerts)),
            )
        ),
        _lags({"workers": found.lag, "sink": found.sink_lag, "webhooks": found.webhook_lag}, found.at_ms),
    ]
    if isinstance(found.alerts, LastAlerts) and found.alerts.alerts:
        parts.append(_alerts(found.alerts, found.at_ms))
    return Screen(*parts)


def _trouble(part: Trouble) -> str:
    return f"cannot be looked at: {part.trouble}"


def _cluster(part: Cluster | Trouble) -> str:
    if isinstance(part, Trouble):
        return _trouble(part)
    return f"{len(part.brokers)} up ({', '.join(map(str, part.brokers))}), controller {part.controller}"


def _database(part: Database | Trouble | None) -> str:
    if part is None:
        return "no address was given"
    if isinstance(part, Trouble):
        return _trouble(part)
    if part.revision == part.needed:
        return f"answers, at revision {part.revision}"
    return f"answers, at revision {part.revision or 'none'}; this release needs {part.needed}: `foreshock db upgrade`"


def _group(name: str, part: Group | Trouble) -> Iterator[tuple[str, str]]:
    if isinstance(part, Trouble):
        yield name, _trouble(part)
        return
    count = len(part.members)
    yield name, f"group {part.name}: {part.state}, {count} member{'s' * (count != 1)}"
    for member in part.members:
        numbers = " ".join(map(str, member.partitions)) or "none"
        yield "", f"{member.name} {member.host}: partitions {numbers}"
    for words, others in (("handed over to", part.handed_to), ("follow", part.follows)):
        for other, partitions in others.items():
            yield "", f"{words} {other}: partitions {' '.join(map(str, partitions))}"


def _scoring(part: Scoring | Trouble, at_ms: int) -> str:
    if isinstance(part, Trouble):
        return _trouble(part)
    if part.committed_ms is None:
        return "none yet"
    models = ", ".join(part.models)
    return f"last committed {_ago(at_ms - part.committed_ms)} ago, model{'s' * (len(part.models) > 1)} {models}"


def _refusals(part: Refusals | Trouble) -> str:
    if isinstance(part, Trouble):
        return _trouble(part)
    counted = ", ".join(f"{count:,} {reason}" for reason, count in part.by_reason.items())
    more = "" if part.whole else " among the newest; there are more"
    return f"in the last day: {counted or 'none'}{more}"


def _policies(part: LastAlerts | Trouble) -> str:
    if isinstance(part, Trouble):
        return _trouble(part)
    return f"policy {', '.join(part.policies)}" if part.policies else "none yet"


def _lags(of_readers: Mapping[str, Sequence[Lag] | Trouble | None], at_ms: int) -> RenderableType:
    table = Table(
        "read by",
        "topic",
        Column("lag", numeric=True),
        Column("waiting for", numeric=True),
        Column("arriving a second", numeric=True),
        Column("read a second", numeric=True),
    )
    parts: list[RenderableType] = []
    for reader, lags in of_readers.items():
        if isinstance(lags, Trouble):
            parts.append(styled(f"lag of the {reader} {_trouble(lags)}"))
            continue
        for lag in lags or ():
            waiting = "" if lag.oldest_ms is None else _ago(at_ms - lag.oldest_ms)
            rates = _rate(lag.arriving_per_s), _rate(lag.read_per_s)
            table.add_row(reader, lag.topic, f"{lag.records:,}", waiting, *rates)
    return Screen(table, *parts)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.1f}"


def _alerts(part: LastAlerts, at_ms: int) -> Table:
    table = Table("last alerts", "user", "", "level", Column("score", numeric=True))
    for recorded_ms, alert in part.alerts:
        levels = f"{alert.level_from} → {alert.level_to}"
        table.add_row(f"{_ago(at_ms - recorded_ms)} ago", alert.user_id, alert.kind, levels, f"{alert.score:.3f}")
    return table


def _ago(ms: float) -> str:
    seconds = max(0.0, ms / 1000)
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
