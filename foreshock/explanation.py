"""Command `explain`: why one user's score is what it is, from the running topics or from a source."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from kafka.errors import KafkaError

from events.reasons import CATALOGUE
from events.types import Event
from foreshock.options import TIME, TIMES, AsJson, Report, event_progress, kafka_of, takes_settings
from foreshock.sources import MonthsOption, PathOption, UsersOption, data_option
from foreshock.tables import Column, Table
from foreshock.terminal import console, errors, fail, print_json, styled
from model.bundle import Bundle, BundleError
from model.datasets.dataset import DatasetError, Source
from model.datasets.sources import open_dataset
from stream.kafka.topic_reader import TopicUnreadable
from stream.settings import Settings

At = Annotated[
    dt.datetime | None,
    typer.Option(
        formats=TIMES,
        metavar=TIME,
        help="Explain the score of the last event up to this time (UTC).",
        show_default="last event",
    ),
]
Sequence = Annotated[
    int | None,
    typer.Option("--sequence", min=1, help="Explain the score with this sequence number, as alerts carry it."),
]


@takes_settings("bundle", "bootstrap_servers", "topic_prefix", "application_id", "stack_dir")
def explain(
    *,
    settings: Settings,
    user: Annotated[str, typer.Option(help="The user's id.")],
    at: At = None,
    sequence: Sequence = None,
    events: Annotated[int, typer.Option(min=1, max=500, help="Recent events to leave out one by one.")] = 30,
    source: Annotated[
        Source | None, data_option("Read a source instead of the topics.", metavar="SOURCE", show_default="the topics")
    ] = None,
    path: PathOption = None,
    users: UsersOption = 2_000,
    months: MonthsOption = 12,
    seed: Annotated[int, data_option("Seed of the simulated source.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Also write an HTML page with heat map, importances and counterfactuals.")
    ] = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a user's score is what it is.

    Shows the causes and what the score would be without each, the smallest change that would lower the level, and how
    much each recent event counts. Needs a bundle and the running topics, or a `--source`.

        foreshock explain --user u0000003 --source simulator --out page.html
    """
    from model.explanation.explain import explain as explain_events
    from reports.explanation_page import page
    from stream.replay.user_events import UnknownUser

    try:
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
        history = (
            _from_topics(settings, user)
            if source is None
            else _from_source(settings, user, source, path, users, months, seed)
        )
        past, calendar = _up_to(history, user, at, sequence), settings.portfolio_rules().calendar
        explanation = explain_events(bundle, past, recent=events, calendar=calendar)
    except (BundleError, DatasetError, TopicUnreadable, UnknownUser) as error:
        fail(str(error))
    except KafkaError as error:
        fail(f"{settings.bootstrap_servers or settings.stack_dir}: {error!r}; `foreshock doctor` tells what is wrong")
    figures = _figures(user, bundle, explanation)
    if as_json:
        print_json(figures)
    else:
        _show(user, explanation)
    if out is not None:
        out.write_text(page(user, bundle.fingerprint_hex, explanation), encoding="utf-8")
        if not as_json:
            console.print(f"wrote {out}")
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


def _from_topics(settings: Settings, user: str) -> list[Event]:
    from stream.replay.user_events import read_events

    kafka = kafka_of(settings)
    with event_progress(errors) as progress:
        task = progress.add_task("reading topics", total=None)
        return read_events(
            kafka, settings.topics, settings.application_id, user, lambda records: progress.advance(task, records)
        )


def _from_source(
    settings: Settings, user: str, source: Source, path: Path | None, users: int, months: int, seed: int
) -> list[Event]:
    from events.instalments import with_missed_among

    options = {"users": users, "months": months, "seed": seed} if source == "simulator" else {}
    dataset = open_dataset(source, path, **options)
    found: list[Event] = []
    with event_progress(errors) as progress:
        task = progress.add_task(f"reading {source}", total=None)
        for number, event in enumerate(dataset.events(), start=1):
            if event.user_id == user:
                found.append(event)
            if number % 10_000 == 0:
                progress.update(task, completed=number)
    if not found:
        examples = ", ".join(sorted(dataset.outcomes())[:3])
        raise DatasetError(f"user {user!r} has no event in source {source}; its ids look like {examples}")
    return list(with_missed_among(found, settings.grace_days, settings.portfolio_rules().calendar))


def _up_to(history: list[Event], user: str, at: dt.datetime | None, sequence: int | None) -> list[Event]:
    """The user's events up to the one that is asked for."""
    if sequence is not None:
        if sequence > len(history):
            fail(f"--sequence {sequence}: user {user!r} has {len(history)} scored events")
        return history[:sequence]
    if at is None:
        return history
    moment = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at
    wanted = [number for number, event in enumerate(history, start=1) if event.occurred_at <= moment]
    if not wanted:
        first = min(event.occurred_at for event in history)
        fail(f"--at {at.isoformat()}: the first event of user {user!r} is of {first.isoformat()}")
    return history[: wanted[-1]]


def _show(user: str, explanation: Any) -> None:
    from reports.explanation_page import counterfactual_text, even_attention_text, said, sort_of

    last = explanation.events[-1].occurred_at.astimezone(dt.UTC)
    console.print(
        styled(user, "bold"),
        f"score {explanation.score:.4f} after {len(explanation.events):,} events, "
        f"the last of {last:%Y-%m-%d %H:%M} UTC; MEDIUM from {explanation.threshold:.4f}",
        sep=": ",
    )
    causes = Table(
        "without",
        Column("score", numeric=True),
        Column("change", numeric=True),
        Column("what is taken away", prose=True),
        title="causes",
    )
    for cause in explanation.causes:
        change = f"{cause.score - explanation.score:+.4f}"
        causes.add_row(cause.code, f"{cause.score:.4f}", change, CATALOGUE[cause.code].counterfactual)
    console.print(causes)
    console.print(counterfactual_text(explanation))
    recent = Table(
        "when",
        "event",
        Column("", prose=True),
        *(Column(heading, numeric=True) for heading in ("attention", "without it", "as usual")),
        title="recent",
    )
    for each in explanation.recent:
        recent.add_row(
            f"{each.event.occurred_at.astimezone(dt.UTC):%Y-%m-%d %H:%M}",
            sort_of(each.event),
            said(each.event),
            f"{each.attention:.1%}",
            f"{each.dropped - explanation.score:+.4f}",
            "-" if each.normal is None else f"{each.normal - explanation.score:+.4f}",
        )
    console.print(recent)
    if text := even_attention_text(explanation):
        console.print(text)


def _figures(user: str, bundle: Bundle, explanation: Any) -> dict[str, Any]:
    counterfactual = explanation.counterfactual
    return {
        "user": user,
        "model": bundle.fingerprint_hex,
        "events": len(explanation.events),
        "score": explanation.score,
        "threshold": explanation.threshold,
        "causes": {cause.code: cause.score for cause in explanation.causes},
        "undoing": None  # the report's key for the counterfactual events
        if counterfactual is None
        else {
            "events": [explanation.events[position].event_id for position in counterfactual.positions],
            "score": counterfactual.score,
            "suffices": counterfactual.suffices,
        },
        "recent": [
            {
                "event_id": each.event.event_id,
                "kind": each.event.KIND,
                "occurred_at": each.event.occurred_at,
                "attention": each.attention,
                "score_without": each.dropped,
                "score_as_usual": each.normal,
            }
            for each in explanation.recent
        ],
    }
