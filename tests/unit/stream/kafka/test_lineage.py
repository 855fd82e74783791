"""What may have happened to topics between two starts of a worker, each told apart and said with its remedy."""

from __future__ import annotations

import pytest
from faust.types import TP

from stream.kafka.lineage import (
    Committed,
    HandedOver,
    Leader,
    OtherLineage,
    Standing,
    Topic,
    changelog_offset_in,
    judge,
    marked,
    require_standing,
    with_changelog_offset,
)

INPUTS = ("repayments", "transactions")
CHANGELOG = "app-user_state-changelog"
TOPICS = {
    "repayments": Topic("r1", 4),
    "transactions": Topic("t1", 4),
    CHANGELOG: Topic("a1", 4),
    "else": Topic("e", 9),
}
COMMITTED = {TP("repayments", 0): Committed(5, "r1,t1"), TP("transactions", 3): Committed(9, "r1,t1")}


def test_the_same_topics_as_before() -> None:
    assert judge("app", TOPICS, COMMITTED, INPUTS, CHANGELOG, {}) == "r1,t1,a1"
    assert judge("app", TOPICS, {}, INPUTS, CHANGELOG, {}) == "r1,t1,a1"
    assert judge("app", TOPICS, {TP("repayments", 0): Committed(5, "r1,t1,a1")}, INPUTS, CHANGELOG, {0: 0, 1: 0})
    without_changelog = {name: topic for name, topic in TOPICS.items() if name != CHANGELOG}
    assert judge("app", without_changelog, {}, INPUTS, CHANGELOG, {}) == "r1,t1,"


def test_how_far_the_changelog_was_is_kept_beside_the_topics() -> None:
    kept = with_changelog_offset("r1,t1,a1", 41)
    assert changelog_offset_in(kept) == 41
    assert judge("app", TOPICS, {TP("repayments", 0): Committed(5, kept)}, INPUTS, CHANGELOG, {}) == "r1,t1,a1"
    assert with_changelog_offset("r1,t1,a1", -1) == "r1,t1,a1"
    assert [changelog_offset_in(metadata) for metadata in ("", "r1,t1,a1", "changelog=", "r1,changelog=x", "7")] == [
        -1
    ] * 5
    assert changelog_offset_in(with_changelog_offset("", 0)) == 0


@pytest.mark.parametrize("mark", ["following=a", "watching=a", "handed-over=a", ""])
@pytest.mark.parametrize("behind", ["", ",changelog=7"])
def test_a_mark_takes_the_place_of_another(mark: str, behind: str) -> None:
    kept = marked(marked(f"r1,t1,a1{behind}", "following=z"), mark)
    assert kept == f"r1,t1,a1{mark and ','}{mark}{behind}"
    assert changelog_offset_in(kept) == (7 if behind else -1)
    found = Standing.of(kept)
    name = "a" if mark else None
    follows = Standing(name, takes_over=mark.startswith("following"))
    assert found == (Standing(handed_to=name) if mark.startswith("handed") else follows)
    assert judge("app", TOPICS, {TP("repayments", 0): Committed(5, kept)}, INPUTS, CHANGELOG, {}) == "r1,t1,a1"


def test_a_journal_that_is_followed_is_known_again() -> None:
    topics = TOPICS | {"a-order": Topic("j1", 4), "z-order": Topic("j9", 4)}
    leader = Leader("a", "a-order")
    kept = judge("app", topics, {}, INPUTS, CHANGELOG, {}, leader)
    assert kept == "r1,t1,a1,j1"
    committed = {TP("repayments", 0): Committed(5, marked(kept, "following=a")), TP("a-order", 0): Committed(2, kept)}
    assert judge("app", topics, committed, INPUTS, CHANGELOG, {}, leader) == kept
    judge("app", topics, committed, INPUTS, CHANGELOG, {}, Leader("z", "z-order"))
    judge("app", topics, committed, INPUTS, CHANGELOG, {})
    with pytest.raises(OtherLineage, match="a-order was deleted and made anew"):
        judge("app", topics | {"a-order": Topic("j2", 4)}, committed, INPUTS, CHANGELOG, {}, leader)
    with pytest.raises(OtherLineage, match="a-order does not exist"):
        judge("app", TOPICS, committed, INPUTS, CHANGELOG, {}, leader)


def offsets(*marks: str) -> dict[TP, Committed]:
    return {TP("repayments", number): Committed(5, marked("r1,t1,a1", mark)) for number, mark in enumerate(marks)}


def test_who_follows_must_not_lead_and_who_was_relieved_is_told(caplog: pytest.LogCaptureFixture) -> None:
    require_standing("app", offsets("", ""), None)
    require_standing("app", {}, None)
    for mark in ("following=a", "watching=a"):
        with pytest.raises(OtherLineage, match=r"app follows a .*--follow a"):
            require_standing("app", offsets("", mark), None)
        require_standing("app", offsets("", mark), Leader("a", "a-order"))
    with pytest.raises(HandedOver, match="handed over to b, whose workers score now: stop these workers"):
        require_standing("app", offsets("handed-over=b", "handed-over=b"), None)
    with pytest.raises(HandedOver, match=r"--follow 'b; reboot'`"):
        require_standing("app", offsets("handed-over=b; reboot"), None)
    require_standing("app", offsets("handed-over=b", "handed-over=b"), Leader("b", "b-order"))
    with pytest.raises(HandedOver, match="handed over to b"):
        require_standing("app", offsets("handed-over=b", ""), Leader("c", "c-order"))
    assert caplog.text == ""
    require_standing("app", offsets("handed-over=b", ""), None)
    assert "partitions [0] were handed over to b: this worker leaves them alone" in caplog.text
    require_standing("app", offsets("following=z"), Leader("a", "a-order"))
    assert "app followed z before, and now follows a" in caplog.text


def test_offsets_from_before_ids_were_kept_are_taken() -> None:
    judge("app", TOPICS, {TP("repayments", 0): Committed(5, "")}, INPUTS, CHANGELOG, {})


def test_a_topic_made_anew() -> None:
    topics = TOPICS | {"transactions": Topic("t2", 4)}
    said = r"transactions was deleted and made anew: its id is t2, and was t1 when .*offset 5"
    with pytest.raises(OtherLineage, match=said):
        judge("app", topics, COMMITTED, INPUTS, CHANGELOG, {})


def test_another_prefix_under_the_same_application() -> None:
    committed = {TP("old.repayments", 0): Committed(5, "x"), TP("old.activity", 1): Committed(0, "y")}
    with pytest.raises(OtherLineage, match=r"app has read old\.repayments and not repayments, transactions"):
        judge("app", TOPICS, committed, INPUTS, CHANGELOG, {})


@pytest.mark.parametrize("grown", ["repayments", CHANGELOG])
def test_partitions_added_to_one_topic(grown: str) -> None:
    topics = TOPICS | {grown: Topic(TOPICS[grown].topic_id, 6)}
    with pytest.raises(OtherLineage, match=f"different numbers of partitions .*{grown} 6"):
        judge("app", topics, COMMITTED, INPUTS, CHANGELOG, {})


def test_a_topic_that_is_not_there() -> None:
    with pytest.raises(OtherLineage, match=r"repayments does not exist; create it: `foreshock topics create`"):
        judge("app", {"transactions": TOPICS["transactions"]}, {}, INPUTS, CHANGELOG, {})


@pytest.mark.parametrize("topics", [TOPICS | {CHANGELOG: Topic("a2", 4)}, {**TOPICS, CHANGELOG: Topic("", 4)}])
def test_a_changelog_made_anew_or_gone(topics: dict[str, Topic]) -> None:
    if not topics[CHANGELOG].topic_id:
        topics = {name: topic for name, topic in topics.items() if name != CHANGELOG}
    committed = COMMITTED | {TP("repayments", 1): Committed(5, "r1,t1,a1")}
    said = "Users whose states are gone would begin anew, .* Start under another application_id"
    with pytest.raises(OtherLineage, match=rf"{CHANGELOG} was deleted and (not )?made anew: .*{said}"):
        judge("app", topics, committed, INPUTS, CHANGELOG, {})


def test_a_changelog_of_which_something_was_deleted() -> None:
    said = rf"{CHANGELOG} has lost records \(partition 2 before offset 7\)"
    with pytest.raises(OtherLineage, match=said):
        judge("app", TOPICS, COMMITTED, INPUTS, CHANGELOG, {0: 0, 2: 7})
    judge("app", TOPICS, {}, INPUTS, CHANGELOG, {0: 0, 2: 7})
