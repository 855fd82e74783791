"""What `replay plan` prints: of a plan, and of the time and disk that are expected."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import msgspec

from foreshock.tables import bytes_text
from stream.replay.estimate import Calibration, ExpectedBytes
from stream.replay.plan import ReplayPlan
from stream.settings import Settings

UNKNOWN = "not known"


def plan_report(
    found: ReplayPlan, workers: int, calibration: Calibration | None, expected: ExpectedBytes
) -> dict[str, Any]:
    """JSON-ready figures."""
    rate = None if calibration is None else calibration.events_per_s
    return {
        "partitions": found.partitions,
        "offsets": found.offsets,
        "records_in_range": _records_in_range(found, expected),
        "archived_offsets": found.archived,
        "inputs": {topic: [msgspec.to_builtins(span) for span in spans] for topic, spans in found.inputs.items()},
        "order_journal": found.order_topic,
        "taken_to": [dict(zip(found.inputs, ends, strict=True)) for ends in found.taken_to],
        "lost": found.lost,
        "forgotten_users": sum(map(len, found.forgotten.values())),
        "expected_s": None if rate is None else found.offsets / rate / workers,
        "events_per_second_and_worker": rate,
        "events_per_second_from": None if calibration is None else str(calibration),
        "expected_bytes": {
            "scores": expected.scores, "alerts": expected.alerts, "states": expected.states, "total": expected.total,
        },
        "published_share": expected.published,
        "free_bytes": expected.free,
    }  # fmt: skip


def plan_rows(
    found: ReplayPlan, workers: int, calibration: Calibration | None, expected: ExpectedBytes
) -> list[tuple[str, str]]:
    """Figures and what they are called."""
    archived = [("of them from archives", f"{found.archived:,}")] if found.archives else []
    in_range = _records_in_range(found, expected)
    return [
        ("partitions", f"{found.partitions:,}"),
        ("records to be read, at most", f"{found.offsets:,}: as many offsets, ends of transactions among them"),
        *archived,
        ("of them in the range", UNKNOWN if in_range is None else f"about {in_range:,}"),
        *(
            (topic, ", ".join(f"{span.begin:,}–{span.end:,}" for span in spans))
            for topic, spans in found.inputs.items()
        ),
        ("order", found.order_topic or "event time: there is no order journal"),
        ("users who were forgotten", f"{sum(map(len, found.forgotten.values())):,}"),
        ("expected time", _time(found, workers, calibration)),
        ("expected on the brokers' disks", _disk(found, expected)),
    ]


def _records_in_range(found: ReplayPlan, expected: ExpectedBytes) -> int | None:
    """About how many events the scores of which will be published, were all users in the range."""
    return None if expected.published is None else round(found.offsets * expected.published)


def _time(found: ReplayPlan, workers: int, calibration: Calibration | None) -> str:
    if calibration is None:
        return f"{UNKNOWN}: there are too few events to measure a rate by"
    seconds = found.offsets / calibration.events_per_s / workers
    return (
        f"{dt.timedelta(seconds=round(seconds))} at {calibration.events_per_s:,.0f} events per second and worker, each "
        f"with a processor core as here; {calibration}"
    )


def _disk(found: ReplayPlan, expected: ExpectedBytes) -> str:
    parts = (("scores", expected.scores), ("alerts", expected.alerts), ("states, until it is done", expected.states))
    named = ", ".join(f"{name} {bytes_text(size) or UNKNOWN}" for name, size in parts)
    total = bytes_text(expected.total) or UNKNOWN
    share = "at most" if expected.published is None else f"with {expected.published:.0%} of the events in the range"
    if found.replayed.users is not None:
        share = "at most, were all users in it"
    free = "" if expected.free is None else f"; {bytes_text(expected.free)} are free"
    return f"{total} of one copy ({named}), {share}{free}. Nothing on this machine but logs: states are in memory"


def plan_warnings(found: ReplayPlan, settings: Settings, expected: ExpectedBytes | None = None) -> Iterator[str]:
    """What makes a replay differ from what was published live, or fail."""
    for topic, begins in found.lost.items():
        yield (
            f"{topic} begins at offsets {', '.join(f'{begin:,}' for begin in begins)}: retention has taken what stood "
            "before, so states differ from the live ones, and scores with them"
        )
    if found.order_topic is None:
        yield (
            f"there is no order journal {settings.topics.order(settings.application_id)}: events are taken in the "
            "order of event time, which live workers may not have done"
        )
    elif any(span.begin for span in found.journal):
        yield f"retention has taken the beginning of {found.order_topic}: events of that time are taken by event time"
    total, free = (None, None) if expected is None else (expected.total, expected.free)
    if total is not None and free is not None and total > free:
        yield "the brokers' disks have less room than is expected: make some first, or replay a shorter range"
