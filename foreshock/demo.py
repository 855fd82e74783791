"""The `demo` command: everything from nothing, measured, and everything stopped again."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from foreshock.demo_run import Demo, DemoError, DemoReport
from foreshock.options import LateOption, Report, TwiceOption, takes_settings
from foreshock.sources import PathOption, SourceOption, data_option
from foreshock.tables import Column, Table, facts_table
from foreshock.terminal import console, fail, styled
from model.bundle import Bundle, BundleError
from model.datasets.dataset import DatasetError
from model.datasets.delivery import arrivals_of
from model.datasets.sources import open_dataset
from model.progress import LongWork
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseError
from stream.database.summary import Summary
from stream.embedded.server import EmbeddedError
from stream.embedded.stack import EmbeddedStack, running
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import ProvisioningError, create_topics
from stream.settings import Settings

OF_DEMO = "of-foreshock-demo"
"""A file that marks a folder as one that a demo made, which the next one may empty."""

STAGES = {
    "publish": "events published",
    "score": "events scored",
    "store": "outputs stored",
    "read": "scores read back",
}


@takes_settings("bootstrap_servers", "database_url", "bundle", "log_format")
def demo(
    *,
    settings: Settings,
    users: Annotated[int, data_option("Simulated borrowers.", min=1)] = 2_000,
    months: Annotated[int, data_option("Simulated months.", min=1)] = 12,
    seed: Annotated[int, data_option("Seed of the simulation.")] = 1,
    source: SourceOption = "simulator",
    path: PathOption = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    late: LateOption = 0.0,
    twice: TwiceOption = 0.0,
    report: Report = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the embedded servers' data in this folder.", show_default="temporary")
    ] = None,
) -> None:
    """Run Foreshock on a simulated portfolio; show what it catches.

    Without `--bootstrap-servers` and `--database-url` it starts an embedded Kafka and PostgreSQL in a temporary folder
    (needs the `embedded` extra) and stops all that it started. On your own servers it uses topics and a consumer group
    named `demo-<time>`, and leaves them there. With `--keep FOLDER` the embedded stack can be started again, with a
    desk over it: `foreshock up --desk --stack-dir FOLDER`. Events are published once and in order of event time; with
    `--late 0.02 --twice 0.005` some arrive late or twice, as in an ordinary feed.

        foreshock demo --users 500 --months 12
    """
    started_s = time.monotonic()
    options: dict[str, Any] = {"users": users, "months": months, "seed": seed} if source == "simulator" else {}
    try:
        dataset = open_dataset(source, path, **options)
        Bundle.load(settings.bundle, settings.bundle_public_key)
    except (DatasetError, BundleError) as error:
        fail(str(error))
    with ExitStack() as cleanup:
        interrupt = cleanup.enter_context(_interruptible())
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="foreshock-demo-")))
        if keep is not None:
            _make_room(keep)
        try:
            kafka, database, settings = _stack(cleanup, settings, folder / "stack" if keep is None else keep)
            create_topics(kafka, settings)
            migration.upgrade(database)
            interrupt.check()
            with _progress() as bars:
                tasks = {stage: bars.add_task(text, total=None) for stage, text in STAGES.items()}

                def progress(stage: str, done: int, total: int | None) -> None:
                    interrupt.check()
                    bars.update(tasks[stage], completed=done, total=total)

                run = Demo(
                    settings,
                    kafka,
                    database,
                    dataset,
                    workers=workers,
                    logs=folder,
                    progress=progress,
                    events=arrivals_of(dataset, late, twice, seed),
                )
                figures = run.run()
                bars.update(tasks["publish"], total=figures.events_published, completed=figures.events_published)
        except (Exception, KeyboardInterrupt) as error:
            if interrupt.came or isinstance(error, KeyboardInterrupt):  # or what a library made of it
                console.print("interrupted; stopping what was started")
                raise typer.Exit(130) from None
            if isinstance(error, EmbeddedError | ProvisioningError | DatabaseError | DemoError):
                fail(str(error))
            raise
        figures.seconds_total = round(time.monotonic() - started_s, 1)
        assert run.summary is not None
        own = settings.bootstrap_servers is not None
        _show(figures, run.summary, own=own, prefix=settings.topic_prefix, kept=keep)
    if report is not None:
        report.write_bytes(figures.as_json())
        console.print(f"figures are in {report}")


def _stack(
    cleanup: ExitStack, settings: Settings, stack_dir: Path
) -> tuple[KafkaConnection, DatabaseConnection, Settings]:
    """What to run on; starts an embedded server for what the user has not named."""
    kafka, database = KafkaConnection.from_settings(settings), DatabaseConnection.from_settings(settings)
    name = f"demo-{int(time.time())}"
    if kafka is not None:
        settings = settings.model_copy(update={"topic_prefix": f"{name}.", "application_id": name})
    if kafka is None or database is None:
        with console.status("starting Kafka and PostgreSQL …") as status:
            stack = EmbeddedStack(
                stack_dir, progress=lambda server, doing: status.update(styled(f"{server}: {doing} …"))
            )
            cleanup.callback(stack.stop)  # before it starts: an interrupt may come when it just has
            stack.start()
        kafka, database = kafka or stack.address.kafka, database or stack.address.database
    return kafka, database, settings


class _Interrupt:
    """Whether a signal has come. The exception alone could get lost: libraries catch it with all others."""

    came = False

    def signalled(self, *_: object) -> None:
        self.came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal came at any time."""
        if self.came:
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[_Interrupt]:
    """Let SIGTERM unwind like Ctrl-C, so that everything is stopped either way.

    SIGINT stays ignored where it is: shells start what runs in the background so.
    """
    interrupt = _Interrupt()
    numbers = [signal.SIGTERM, *([] if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else [signal.SIGINT])]
    previous = {number: signal.signal(number, interrupt.signalled) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _progress() -> Progress:
    return LongWork(
        SpinnerColumn(),
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _make_room(folder: Path) -> None:
    """Take away what an earlier demo has left in the folder; end the command where anything else is there."""
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
    elif not (folder / OF_DEMO).exists():
        fail(f"--keep {folder}: it holds something else than an earlier demo; name a new folder")
    elif running(folder) is not None:
        fail(f"--keep {folder}: a stack runs there; stop it with `foreshock down --stack-dir {folder}`")
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    (folder / OF_DEMO).touch()


def _show(figures: DemoReport, summary: Summary, *, own: bool, prefix: str, kept: Path | None) -> None:
    rows = [
        ("events published", f"{figures.events_published:,}"),
        ("events scored", f"{figures.events_scored:,} of {figures.users:,} users"),
        ("events per second", f"{figures.events_per_second:,.0f} from the first score to the last"),
        ("dead letters", _dead_letters(figures)),
        (
            "alerts",
            ", ".join(f"{count:,} {level}" for level, count in figures.alerts_by_level.items() if count) or "none",
        ),
    ]
    if figures.deteriorations is not None:
        caught = f"{figures.deteriorations_caught:,} of {figures.deteriorations:,}"
        lead = (
            ""
            if figures.median_lead_days is None
            else f", half of them {figures.median_lead_days:.0f} days ahead or more"
        )
        rows.append(("deteriorations caught", caught + lead))
    if figures.auc is not None:
        rows.append(("AUC", f"{figures.auc:.4f} ({figures.auc_of})"))
    rows.append(("seconds in all", f"{figures.seconds_total:.0f}"))
    console.print(facts_table(rows, f"foreshock on {figures.source}"))
    console.print()
    _show_worrying(summary)
    if own:
        console.print(f"topics {prefix}scores, {prefix}alerts; tables user_scores, score_history, alerts, alert_events")
    elif kept is not None:
        console.print("everything has been stopped, and is kept; the desk over it:")
        console.print(f"    foreshock up --desk --stack-dir {kept}")
    else:
        console.print(
            "everything has been stopped, and nothing is kept; `foreshock demo --keep FOLDER` keeps it, and "
            "`foreshock up --desk --stack-dir FOLDER` opens the desk over it"
        )


def _dead_letters(figures: DemoReport) -> str:
    refusals = ", ".join(f"{count:,} {code}" for code, count in figures.dead_letters_by_reason.items())
    return f"{figures.dead_letters:,}{f' ({refusals})' if refusals else ''}"


def _show_worrying(summary: Summary) -> None:
    worrying = Table(
        "user",
        "level",
        *(
            Column(heading, numeric=True)
            for heading in ("score", "usual", "contracts", "days late", "exposure", "expected loss")
        ),
        "alert since",
        Column("because (when it last rose)", prose=True),
        title="users with an alert, not yet 60 days late, by what their default would cost",
    )
    for user in summary.most_worrying:
        worrying.add_row(
            user.user_id,
            user.level,
            f"{user.score:.3f}",
            f"{user.baseline:.3f}",
            *(
                "" if amount is None else f"{amount:,.0f}"
                for amount in (user.contracts, user.days_past_due, user.exposure, user.expected_loss)
            ),
            f"{user.opened_at:%Y-%m-%d}",
            "; ".join(reason.text for reason in user.reasons[:2]),
        )
    console.print(worrying)
