import pytest

from stream.kafka.provisioning import shadow_specifications
from stream.people.places import is_beside
from stream.settings import load_settings
from stream.shadow.names import is_shadow_name
from stream.shadow.run import shadow_settings
from stream.topics import Topics, transactional_id


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("may", True), ("May-2_v1.0", True), ("_may", True), ("x" * 100, True), ("x" * 101, False), ("", False),
     ("a b", False), ("a/b", False), ("ä", False), ("may\n", False), ("--insecure", False), ("-h", False),
     ("..", False)],
)  # fmt: skip
def test_names(name: str, is_one: bool) -> None:
    assert is_shadow_name(name) is is_one


def test_a_shadow_has_nothing_in_common_with_the_live_workers_but_what_both_read() -> None:
    settings = load_settings(topic_prefix="risk.", application_id="app")
    own = shadow_settings(settings, "may")
    assert (own.application_id, own.topics) == ("app-shadow-may", settings.topics)
    live = {*settings.topics.live_outputs("app").all, settings.topics.changelog("app")}
    of_its_own = settings.topics.changelog(own.application_id), settings.topics.order(own.application_id)
    written = {*settings.topics.shadow_outputs("may").all, *of_its_own}
    assert written == {topic.name for topic in shadow_specifications(settings, "may")}
    assert live.isdisjoint(written)
    assert {transactional_id(own.application_id, 0, 0)}.isdisjoint({transactional_id("app", 0, 0)})
    assert all(topic.partitions == settings.partitions for topic in shadow_specifications(settings, "may"))


def test_what_it_writes_counts_among_the_places_that_hold_records_of_a_user() -> None:
    settings = load_settings(topic_prefix="risk.", application_id="app")
    for topic in shadow_specifications(settings, "may"):
        assert is_beside(topic.name, settings)
    topics = Topics("risk.")
    for name in (topics.scores, topics.changelog("app"), topics.changelog("app-shadows"), "risk.scores.latest"):
        assert not is_beside(name, settings)
