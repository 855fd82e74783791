"""What `doctor` says of webhooks. On real servers: see the integration tests of webhooks."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from stream.kafka.topic_sizes import GroupLag
from stream.webhooks.deliveries import Waiting
from stream.webhooks.judgement import LATE_S, judge_webhooks
from stream.webhooks.messages import Filter
from stream.webhooks.receivers import Webhook

CRM = Webhook(
    name="crm", url="https://crm.example/hooks", state="active", wants=Filter(), starts={}, secret=b"",
    former_secret=None, former_secret_until=None, failures=0, paused_until=None, last_error=None, created_by="ann",
    created_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), rotated_at=None,
)  # fmt: skip
READ = [GroupLag("g", "alerts", 7, None), GroupLag("g", "alert-actions", 1, None)]


def test_nothing_is_said_without_webhooks() -> None:
    assert list(judge_webhooks([], [], "g", [])) == []


def test_what_is_well_says_how_far_the_group_is_behind() -> None:
    (found,) = judge_webhooks([CRM], [Waiting("crm", 3, 0, LATE_S)], "g", READ)
    assert (found.level, found.subject) == ("ok", "webhooks")
    assert "3 messages wait, group g has 8 records to read" in found.message
    (unknown,) = judge_webhooks([CRM], [], "g", None)
    assert (unknown.level, "group" in unknown.message) == ("ok", False)


@pytest.mark.parametrize(
    ("webhook", "waiting", "lags", "words"),
    [
        (CRM, Waiting("crm", 0, 0, 0.0), [], "nobody has ever read as group g"),
        (dataclasses.replace(CRM, state="disabled"), Waiting("crm", 12, 0, 9e9), READ, "disabled, and 12 messages"),
        (dataclasses.replace(CRM, last_error="status 500"), Waiting("crm", 1, 0, 2 * LATE_S), READ,
         "1 messages wait, the first for 2.0 hours; the last error: status 500"),
        (CRM, Waiting("crm", 0, 1_200, 0.0), READ, "1,200 messages were given up"),
    ],
)  # fmt: skip
def test_what_is_not_well_is_said_with_what_to_do(
    webhook: Webhook, waiting: Waiting, lags: list[GroupLag], words: str
) -> None:
    (found,) = judge_webhooks([webhook], [waiting], "g", lags)
    assert found.level == "warning"
    assert words in found.message
    assert "webhooks" in found.remedy
