"""What is wrong with webhooks, before a receiver misses something: for `doctor`. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from stream.kafka.provisioning import Finding
from stream.kafka.topic_sizes import GroupLag
from stream.webhooks.deliveries import Waiting
from stream.webhooks.receivers import Webhook

LATE_S = 3_600.0
"""A message that has waited for longer is told of; `ForeshockWebhookBehind` goes by the same."""


def judge_webhooks(
    webhooks: Sequence[Webhook], waiting: Sequence[Waiting], group: str, lags: Sequence[GroupLag] | None
) -> Iterator[Finding]:
    """Findings on webhooks, none where there is no webhook. `lags` are those of the consumer group `group`: empty where
    it has never read, None where that is not known."""
    if not webhooks:
        return
    found = [*_nobody_delivers(group, lags), *_of_each(webhooks, {one.name: one for one in waiting})]
    if found:
        yield from found
        return
    pending = sum(one.pending for one in waiting)
    behind = "" if lags is None else f", group {group} has {sum(lag.records for lag in lags):,} records to read"
    yield Finding("ok", "webhooks", f"{len(webhooks):,} are told what they want: {pending:,} messages wait{behind}")


def _nobody_delivers(group: str, lags: Sequence[GroupLag] | None) -> Iterator[Finding]:
    if lags is not None and not lags:
        yield Finding(
            "warning",
            "webhooks",
            f"nobody has ever read as group {group}: what webhooks are to be told stays in the topics, until their "
            "retention takes it",
            "start `foreshock webhooks run`",
        )


def _of_each(webhooks: Sequence[Webhook], waiting: Mapping[str, Waiting]) -> Iterator[Finding]:
    for webhook in webhooks:
        own = waiting.get(webhook.name, Waiting(webhook.name, 0, 0, 0.0))
        subject = f"webhook {webhook.name}"
        if webhook.state == "disabled":
            yield Finding(
                "warning",
                subject,
                f"it is disabled, and {own.pending:,} messages wait for it",
                f"`foreshock webhooks enable {webhook.name}`, or `remove` it: messages are kept until then",
            )
        elif own.pending and own.oldest_s > LATE_S:
            last = f"; the last error: {webhook.last_error}" if webhook.last_error else ""
            yield Finding(
                "warning",
                subject,
                f"{own.pending:,} messages wait, the first for {own.oldest_s / 3_600:.1f} hours{last}",
                f"see that `foreshock webhooks run` runs, and `foreshock webhooks deliveries {webhook.name} --state "
                "pending`",
            )
        if own.dead:
            yield Finding(
                "warning",
                subject,
                f"{own.dead:,} messages were given up",
                f"`foreshock webhooks deliveries {webhook.name} --state dead`, then `replay {webhook.name} --dead`",
            )
