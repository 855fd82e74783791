"""Commands `replay plan`, `replay run` and `replay diff`."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from kafka.errors import KafkaError
from rich.console import Console

from foreshock.comparison_tables import Segments, deciles_table, facts_of, segments_tables
from foreshock.options import (
    TIME,
    TIMES,
    AsJson,
    Report,
    database_of,
    event_progress,
    interruptible,
    kafka_failure,
    kafka_of,
    takes_settings,
    utc,
)
from foreshock.promotion import promote, rollback
from foreshock.replay_plan import plan_report, plan_rows, plan_warnings
from foreshock.replay_run import follow_in_processes
from foreshock.tables import facts_table
from foreshock.terminal import console, errors, fail, print_json, styled
from model.bundle import Bundle, BundleError
from reports.replay_page import page
from stream.alerts.policy import PolicyError
from stream.comparison.pairing import TooFarApart
from stream.database import replay_runs
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError
from stream.embedded.server import EmbeddedError
from stream.event_archive.manifest import ArchiveError
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError
from stream.kafka.rights import require_rights
from stream.kafka.topic_reader import TopicUnreadable
from stream.least_rights import replay_rights
from stream.published_outputs import Definition
from stream.replay.diff import ReplayDiff, diff_with_live
from stream.replay.estimate import calibrate, expected_bytes
from stream.replay.plan import ReplayPlan, open_source, plan_replay
from stream.replay.range import ReplayError, ReplayRange
from stream.replay.run import prepare_topics, remove_states
from stream.scoring.order_journal import UnreadableOrder
from stream.settings import Settings

replay_app = typer.Typer(help="Score the past again and compare it with what was published.", no_args_is_help=True)


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Names the run and its topics: up to 100 letters, digits, dots, dashes and underscores.",
        show_default=False,
    ),
]
NameOption = Annotated[str | None, typer.Option("--name", hidden=True, help="The same as NAME.")]
From = Annotated[
    dt.datetime,
    typer.Option(
        "--from", formats=TIMES, metavar=TIME, help="First event time, UTC: 2023-03-01 or 2023-03-01T12:30:00."
    ),
]
To = Annotated[
    dt.datetime, typer.Option("--to", formats=TIMES, metavar=TIME, help="End in event time, UTC, itself left out.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes on this machine, up to one for each partition.")]
ArchiveFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--archive", metavar="FOLDER", show_default=False,
        help="Read an archive of the topics first, and from the topics what follows; once for each of several.",
    ),
]  # fmt: skip
Users = Annotated[
    str | None, typer.Option(help="Only these users: ids separated by commas, or @FILE with one id a line.")
]


@replay_app.command("plan")
@takes_settings("bundle", "bootstrap_servers", "topic_prefix", "application_id", "stack_dir", "log_format")
def plan(
    *,
    settings: Settings,
    name: Name = None,
    from_: From,
    to: To,
    users: Users = None,
    archives: ArchiveFolders = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Say what a replay would read, take and miss.

    Shows partitions, offsets, records, the time and the disk that are expected, and what retention has taken. The time
    is by scoring the first events here with the bundle, the disk by what live topics hold, the records in the range by
    looking at some. Changes nothing. Needs Kafka with the input topics.

        foreshock replay plan march --from 2023-03-01 --to 2023-04-01
    """
    kafka = kafka_of(settings)
    with _failures(kafka), interruptible("it has changed nothing"):
        replayed = _range(_one_name(name, None), from_, to, users)
        loaded = Bundle.load(settings.bundle, settings.bundle_public_key)
        found = _plan(kafka, settings, replayed, archives, errors if as_json else console)
        with open_source(kafka, archives or ()) as reader:
            calibration = calibrate(reader, settings, loaded, found.partitions)
        expected = expected_bytes(kafka, settings, found)
    if as_json:
        print_json(plan_report(found, workers, calibration, expected))
        return
    console.print(facts_table(plan_rows(found, workers, calibration, expected)))
    for warning in plan_warnings(found, settings, expected):
        console.print(styled(warning, "yellow"))


@replay_app.command("run")
@takes_settings(
    "bundle", "bootstrap_servers", "database_url", "topic_prefix", "application_id", "stack_dir", "log_format"
)
def run(
    *,
    settings: Settings,
    name: Name = None,
    name_option: NameOption = None,
    from_: From,
    to: To,
    users: Users = None,
    archives: ArchiveFolders = None,
    workers: Workers = 1,
    rate: Annotated[
        float | None,
        typer.Option(min=1, metavar="N", help="At most so many events per second.", show_default="no limit"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run of this name.")] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=65_535,
            help="Serve /metrics, /livez and /readyz: the first worker at this port, others at the next; 0: free ones.",
            show_default="none",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a past range of event time again, beside the live topics.

    Writes into the topics `scores.replay.NAME` and `alerts.replay.NAME`; live topics stay untouched. Needs Kafka with
    the input topics from their beginning, PostgreSQL to record the run, and a model bundle, which may be another than
    the workers use. The same command on other machines shares the work; after an interruption it goes on.

        foreshock replay run march --from 2023-03-01 --to 2023-04-01
    """
    name = _one_name(name, name_option)
    kafka, database = kafka_of(settings), database_of(settings)
    with _failures(kafka), interruptible("the same command goes on with what is done"):
        replayed = _range(name, from_, to, users)
        loaded = Bundle.load(settings.bundle, settings.bundle_public_key)
        settings.alert_policy(loaded.thresholds)
        require_rights(kafka, replay_rights(settings, name))
        shown_on = errors if as_json else console
        planned = _plan(kafka, settings, replayed, archives, shown_on)
        for warning in plan_warnings(planned, settings):
            errors.print(styled(warning, "yellow"))
        goes_on = _begin(kafka, database, settings, planned, loaded, overwrite=overwrite)
        if goes_on:
            shown_on.print(f"going on with replay {name}")
        counts: Counter[str] = Counter()
        try:
            with event_progress(shown_on) as progress:
                task = progress.add_task("replaying", total=None)
                counts = follow_in_processes(
                    kafka, settings, planned, workers, rate,
                    lambda done, total: progress.update(task, completed=done, total=total), metrics_port,
                )  # fmt: skip
        except BaseException:
            replay_runs.record_end(database, name, "failed", counts)
            raise
        replay_runs.record_end(database, name, "finished", counts)
        remove_states(kafka, settings, planned)
    told = {key: counts[key] for key in ("scored", "published_scores", "published_alerts")}
    if as_json:
        print_json({"name": name, "model": loaded.fingerprint_hex, "went_on": goes_on, "counted_here": told})
        return
    here = " here, beside what was there" if goes_on else ""
    console.print(
        f"replayed {told['scored']:,} events{here} under model {loaded.fingerprint_hex}: "
        f"{told['published_scores']:,} scores and {told['published_alerts']:,} alert records in the range"
    )


def _begin(
    kafka: KafkaConnection,
    database: DatabaseConnection,
    settings: Settings,
    planned: ReplayPlan,
    bundle: Bundle,
    *,
    overwrite: bool,
) -> bool:
    """Make its topics and record that it runs; whether an unfinished run is gone on with. Raises `ReplayError`."""
    replayed = planned.replayed
    policy, counting = settings.alert_policy(bundle.thresholds), settings.portfolio_rules()
    rules = " ".join(
        map(
            str,
            (
                policy.version, counting.calendar.time_zone, counting.serious_days, counting.materiality_absolute,
                counting.materiality_relative,
            ),
        )
    )  # fmt: skip
    asked = (replayed.from_at, replayed.to_at, sorted(replayed.users or ()), bundle.fingerprint_hex)
    recorded = replay_runs.find(database, replayed.name)
    earlier, goes_on = "", False
    if recorded is not None:
        differences = list(recorded.differences(*asked, rules))
        goes_on = recorded.status != "finished" and not differences
        others = f", of another {' and another '.join(differences)}" if differences else ", which is finished"
        earlier = "" if goes_on else others
    if prepare_topics(kafka, settings, planned, overwrite=overwrite, go_on=goes_on, earlier=earlier):
        return True
    from_at, to_at, users, model = asked
    replay_runs.record_start(database, replayed.name, from_at, to_at, model, users, rules)
    return False


@replay_app.command("work", hidden=True)
@takes_settings("bundle", "bootstrap_servers", "topic_prefix", "application_id", "stack_dir", "log_format")
def work(
    *,
    settings: Settings,
    assignment: Annotated[Path, typer.Argument(help="What this worker is told.")],
    counts: Annotated[Path, typer.Argument(help="Folder for what it has counted.")],
    port: Annotated[int | None, typer.Option(help="Where it serves health and metrics.")] = None,
) -> None:
    """Be a worker of `replay run`, which starts it."""
    from foreshock.replay_run import work as follow

    raise typer.Exit(follow(settings, kafka_of(settings), assignment, counts, port))


@contextmanager
def _failures(kafka: KafkaConnection) -> Iterator[None]:
    """Ends the command with what went wrong."""
    try:
        yield
    except (
        ReplayError, TopicUnreadable, BundleError, PolicyError, ProvisioningError, DatabaseError, UnreadableOrder,
        ArchiveError, EmbeddedError, TooFarApart,
    ) as error:  # fmt: skip
        fail(str(error))
    except KafkaError as error:
        fail(kafka_failure(error, kafka))


def _plan(
    kafka: KafkaConnection,
    settings: Settings,
    replayed: ReplayRange,
    archives: list[Path] | None,
    shown_on: Console = console,
) -> ReplayPlan:
    with event_progress(shown_on) as progress:
        task = progress.add_task("looking at partitions", total=None)
        return plan_replay(
            kafka,
            settings,
            replayed,
            lambda done, total: progress.update(task, completed=done, total=total),
            archives or (),
        )


@replay_app.command("diff")
@takes_settings("bundle", "bootstrap_servers", "database_url", "topic_prefix", "application_id", "stack_dir")
def diff(
    *,
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a finished run.")],
    segments: Segments = None,
    as_json: AsJson = False,
    report: Report = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page of HTML to this file.", show_default=False)
    ] = None,
) -> None:
    """Compare a replay run with what was published live.

    Scores by decile, level and product, alerts gained, lost, earlier and later, and what came true of the alerts on
    both sides, by what the bundle calls default. The figures, without borrowers, are kept with the run, for the
    desk's portfolio. Needs Kafka, PostgreSQL and a finished run. Exit code 0 if nothing differs, 3 if something does.

        foreshock replay diff march --report diff.json --html diff.html
    """
    kafka, database = kafka_of(settings), database_of(settings)
    with _failures(kafka), interruptible("nothing of it is kept, and the same command compares anew"):
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
        recorded = replay_runs.find(database, name)
        if recorded is None:
            fail(f"no run named {name!r} is on record; `foreshock replay run {name} --from … --to …` makes one")
        if recorded.status != "finished":
            fail(f"run {name!r} is {recorded.status}; the same `foreshock replay run` goes on with it to its end")
        users = frozenset(recorded.users) if recorded.users else None
        with event_progress(errors if as_json else console) as progress:
            task = progress.add_task("comparing", total=None)
            result = diff_with_live(
                kafka,
                settings,
                ReplayRange(name, recorded.from_at, recorded.to_at, users),
                Definition(bundle.manifest.delinquency_days, bundle.manifest.headline_horizon_days),
                lambda done, total: progress.update(task, completed=done, total=total),
                segments or (),
            )
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(result.as_report()), indent=2) + b"\n")
    if html is not None:
        html.write_text(page(name, recorded.from_at, recorded.to_at, result), encoding="utf-8")
    if as_json:
        print_json(result.as_report())
    else:
        _show(result)
    with _failures(kafka):
        replay_runs.record_diff(database, name, result.as_figures())
    raise typer.Exit(3 if result.differs else 0)


replay_app.command("promote")(promote)
replay_app.command("rollback")(rollback)


def _one_name(argument: str | None, option: str | None) -> str:
    """The name of the run, which older scripts give as `--name`."""
    if argument is not None and option is not None and argument != option:
        fail(f"NAME is {argument!r} but --name is {option!r}; give NAME alone", code=2)
    name = option if argument is None else argument
    if name is None:
        fail("NAME is missing; `foreshock replay run NAME --from … --to …` names the run", code=2)
    return name


def _range(name: str, from_at: dt.datetime, to_at: dt.datetime, users: str | None) -> ReplayRange:
    if not name or not all(c.isascii() and (c.isalnum() or c in ".-_") for c in name) or len(name) > 100:
        raise ReplayError(f"NAME {name!r}: use up to 100 letters, digits, dots, dashes and underscores")
    wanted = None
    if users is not None:
        if users.startswith("@"):
            path = Path(users[1:])
            if not path.is_file():
                raise ReplayError(f"--users {users}: {path} is not a file")
            users = ",".join(path.read_text().split())
        wanted = frozenset(user for user in users.split(",") if user)
        if not wanted:
            raise ReplayError("--users names no user")
    return ReplayRange(name, utc(from_at), utc(to_at), wanted)


def _show(result: ReplayDiff) -> None:
    figures = result.as_report()
    console.print(facts_table(facts_of(figures)))
    for table in (deciles_table(figures["deciles"], "replayed"), *segments_tables(figures, "replayed")):
        console.print()
        console.print(table)
    console.print(styled("something differs" if result.differs else "nothing differs", "bold"))
