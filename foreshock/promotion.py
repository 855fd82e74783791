"""Commands `replay promote` and `replay rollback`: another model takes the live outputs over, and back."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from kafka.errors import KafkaError

from foreshock.options import (
    AsJson,
    event_progress,
    interruptible,
    kafka_failure,
    kafka_of,
    shadow_name,
    takes_settings,
)
from foreshock.terminal import console, errors, fail, print_json
from stream.kafka.topic_reader import TopicReader, TopicUnreadable
from stream.settings import Settings
from stream.topics import shadow_application

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the shadow.", parser=shadow_name, show_default=False)
]
MostBehind = Annotated[
    int, typer.Option(min=0, metavar="N", help="Begin when the one to take over is at most so many events behind.")
]
Wait = Annotated[float, typer.Option("--wait", min=1, metavar="SECONDS", help="Wait at most so long for that.")]
Shorter = Annotated[
    bool, typer.Option("--with-shorter-history", help="Also where retention has taken the beginning of the events.")
]
INTERRUPTED = "partitions that were handed over stay so, and the same command goes on with the others"
_SETTINGS = ("bootstrap_servers", "topic_prefix", "application_id", "stack_dir", "log_format")


@takes_settings(*_SETTINGS)
def promote(
    *,
    settings: Settings,
    name: Name,
    most_behind: MostBehind = 10_000,
    wait: Wait = 600.0,
    shorter: Shorter = False,
    as_json: AsJson = False,
) -> None:
    """Hand the live outputs over from the live workers to a shadow.

    The shadow's workers (`foreshock shadow run NAME`) must run, and go on as the live ones: from one event to the next,
    without a gap, with the alerts that are open. The workers before end by themselves, and are to be stopped where they
    are started again. Interrupted at any moment, the same command goes on.

        foreshock replay promote may
    """
    taker = shadow_application(settings.application_id, name)
    _hand_over(settings, settings.application_id, taker, most_behind, wait, shorter=shorter, as_json=as_json)


@takes_settings(*_SETTINGS)
def rollback(
    *,
    settings: Settings,
    name: Name,
    most_behind: MostBehind = 10_000,
    wait: Wait = 600.0,
    as_json: AsJson = False,
) -> None:
    """Hand the live outputs back from a shadow that was promoted.

    The workers of before must run again, and follow: with their bundle, application_id and
    `foreshock worker --follow APPLICATION`, where APPLICATION is the one that they were told has taken over. They go on
    where they stopped.

        foreshock replay rollback may
    """
    giver = shadow_application(settings.application_id, name)
    _hand_over(settings, giver, settings.application_id, most_behind, wait, shorter=True, as_json=as_json)


def _hand_over(
    settings: Settings, giver: str, taker: str, most_behind: int, timeout_s: float, *, shorter: bool, as_json: bool
) -> None:
    from stream.hand_over.alerts import ChangelogUnreadable
    from stream.hand_over.promotion import Promotion, require_history
    from stream.hand_over.situation import HandOverRefused, Situation
    from stream.kafka.provisioning import ProvisioningError
    from stream.kafka.rights import require_rights
    from stream.least_rights import hand_over_rights
    from stream.scoring.order_journal import UnreadableOrder

    kafka = kafka_of(settings)
    try:
        require_rights(kafka, hand_over_rights(settings, giver, taker))
        with TopicReader(kafka) as reader:
            partitions = reader.partitions(settings.topics.inputs[0])
        if not shorter:
            require_history(kafka, settings.topics, partitions)
        shown_on = errors if as_json else console
        with interruptible(INTERRUPTED), event_progress(shown_on) as progress:
            task = progress.add_task("partitions handed over", total=partitions)

            def show(found: Situation) -> None:
                behind = sum(found.behind.values())
                progress.update(
                    task,
                    completed=len(found.led),
                    description=f"partitions handed over ({behind:,} events behind)" if behind else "handed over",
                )

            def show_reading(left: int) -> None:
                progress.update(task, description=f"reading the alerts of {giver} ({left:,} rows left)")

            promotion = Promotion(kafka, settings.topics, giver, taker, partitions, show, show_reading)
            done = promotion.run(most_behind, timeout_s)
    except (HandOverRefused, ChangelogUnreadable, ProvisioningError, TopicUnreadable, UnreadableOrder) as error:
        fail(str(error))
    except KafkaError as error:
        fail(kafka_failure(error, kafka))
    if as_json:
        report: dict[str, Any] = {
            "giver": giver,
            "taker": taker,
            "partitions": partitions,
            "handed_over_now": sorted(done.given),
            "alerts": done.alerts,
            "pause_s": round(done.pause_s, 3),
        }
        print_json(report)
        return
    if done.given:
        console.print(
            f"{taker} leads in all {partitions} partitions; {len(done.given)} were handed over now, with "
            f"{done.alerts:,} alerts, in {done.pause_s:.1f} s",
            highlight=False,
        )
    else:
        console.print(f"{taker} leads in all {partitions} partitions; there was nothing to do", highlight=False)
    if len(done.returned) < partitions:  # those that follow go on
        console.print(f"stop the workers of {giver}", highlight=False)
