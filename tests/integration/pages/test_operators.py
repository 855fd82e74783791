"""An operator's day in a real browser: a model is approved by a second person, a hand-over is watched as it goes, and
the champion is named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import NoError
from playwright.sync_api import Page, expect

from stream.database import registry
from stream.database.registry import Decider
from stream.kafka.clients import open_admin
from stream.kafka.connection import KafkaConnection
from stream.kafka.provisioning import create_topics
from stream.topics import shadow_application
from tests.integration.pages.conftest import Site, Visit
from tests.integration.test_model_registry import a_model

MODEL = a_model().fingerprint


@pytest.fixture
def desk_options(topic_prefix: str) -> dict[str, Any]:
    return {
        "approval": "four-eyes", "topic_prefix": topic_prefix, "application_id": f"{topic_prefix}live",
        "partitions": 2, "replication_factor": 1,
    }  # fmt: skip


@pytest.fixture
def desk_kafka(kafka: KafkaConnection) -> KafkaConnection:
    return kafka


@pytest.fixture
def commits(site: Site, desk_kafka: KafkaConnection) -> Iterator[Any]:
    """Has a group commit, as its workers do: `commits(group, {partition: (offset, mark)})`."""
    create_topics(desk_kafka, site.settings)
    admin = open_admin(desk_kafka)

    def commit(group: str, standing: Mapping[int, tuple[int, str]]) -> None:
        offsets = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, f"ids{mark and ','}{mark}", -1)
            for topic in site.settings.topics.inputs
            for partition, (offset, mark) in standing.items()
        }
        assert set(admin.alter_group_offsets(group, offsets).values()) == {NoError}

    yield commit
    admin.close()


def operations(page: Page) -> None:
    page.get_by_role("link", name="Operations").click()
    expect(page.locator("#models")).to_be_visible()


def decide(page: Page, step: str, reason: str) -> None:
    form = page.locator("#decide details", has_text=MODEL)
    if form.get_attribute("open") is None:
        form.locator("summary").click()
    form.get_by_label("Reason").fill(reason)
    form.get_by_role("button", name=step, exact=True).click()


def test_an_operators_hand_over(visit: Visit, site: Site, commits: Any) -> None:
    registry.register(site.database, a_model(), Decider("ops", "trained on 2026"))
    live = site.settings.application_id
    shadow = shadow_application(live, "may")
    commits(live, {0: (100, ""), 1: (50, "")})
    commits(shadow, {0: (90, f"following={live}"), 1: (50, f"following={live}")})
    # Who may commit at the brokers calls groups as they like. The page names commands, for people to run as they stand.
    for made_up in ("$(reboot)", "may; reboot", "--insecure", "-h", "may\nreboot", "<b>may</b>", "`reboot`", ".."):
        commits(shadow_application(live, made_up), {0: (90, f"following={live}"), 1: (50, f"following={live}")})

    # Who registered a model does not approve it; a second person does.
    first, second = visit("ops", expect_errors=True), visit("oki")
    operations(first)
    operations(second)
    mine = first.locator("#decide details", has_text=MODEL)
    mine.locator("summary").click()
    expect(mine).to_contain_text("ops registered this model: another person has to approve it.")
    expect(mine.get_by_role("button", name="Approve")).to_have_count(0)
    decide(second, "Approve", "validated, report 17")
    expect(second.locator("#notice")).to_contain_text(f"Model {MODEL} is now: Approved.")

    # Whose page is older than that decides nothing, and keeps what was written.
    decide(first, "Retire, for good", "not this one")
    expect(first.locator("#notice")).to_contain_text("somebody was faster, and the model is now Approved")
    expect(first.locator("#decide details[open]").get_by_label("Reason")).to_have_value("not this one")
    assert registry.find(site.database, MODEL).standing == "approved"

    # The hand-over as the brokers tell of it, partition by partition, with nothing loaded anew.
    hand_over = second.locator("#hand_over")
    hand_over.scroll_into_view_if_needed()
    expect(hand_over).to_contain_text("The shadow leads in 0 of 2 partitions.")
    expect(hand_over.locator("h3")).to_have_text(["may"])
    expect(hand_over).to_contain_text(f"{shadow} is 40 events behind")
    expect(hand_over.locator("code")).to_have_text("foreshock replay promote may")
    commits(live, {0: (100, f"handed-over={shadow}")})
    commits(shadow, {0: (100, "")})
    site.clock.pass_by(seconds=5)
    expect(hand_over).to_contain_text("The shadow leads in 1 of 2 partitions.")
    commits(live, {1: (50, f"handed-over={shadow}")})
    commits(shadow, {1: (50, "")})
    site.clock.pass_by(seconds=5)
    expect(hand_over).to_contain_text("The shadow leads in 2 of 2 partitions.")
    expect(hand_over.locator("code")).to_have_count(0)
    commits(live, dict.fromkeys((0, 1), (40, f"following={shadow}")))
    site.clock.pass_by(seconds=5)
    expect(hand_over.locator("code")).to_have_text("foreshock replay rollback may")

    # What leads is called so. Every decision stands there, with who made it.
    decide(second, "Call champion", "leads since noon")
    expect(second.locator("#notice")).to_contain_text("is now: Champion.")
    expect(second.locator("#decide")).to_have_count(0)
    expect(second.locator("#decisions tbody tr").first).to_contain_text(
        re.compile("Named Champion.*oki.*leads since noon")
    )
    noted = [(one.decision, one.actor, one.approval) for one in registry.decisions(site.database, MODEL)]
    assert noted == [("registered", "ops", None), ("approved", "oki", "four-eyes"), ("named", "oki", None)]


def test_a_decision_needs_a_reason_and_works_without_script(visit: Visit, site: Site) -> None:
    registry.register(site.database, a_model(), Decider("cleo", "trained"))
    page = visit("ops", java_script_enabled=False, expect_errors=True)
    operations(page)
    decide(page, "Approve", "   ")
    expect(page.locator("#notice")).to_contain_text("please say why")
    decide(page, "Retire, for good", "<script>alert(1)</script>")
    expect(page.locator("#notice")).to_contain_text("is now: Retired.")
    expect(page.locator("#decisions")).to_contain_text("<script>alert(1)</script>")
    assert registry.find(site.database, MODEL).standing == "retired"
