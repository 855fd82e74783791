"""Metrics are named as Prometheus asks for, described in full, and of few values."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from stream.telemetry.catalogue import GROUPS, LABELS, METRICS
from stream.telemetry.metric import Kind, Metric, Scrape, Source

UNITS = {"seconds": "_seconds", "seconds since 1970": "_timestamp_seconds"}


def test_each_is_defined_once() -> None:
    names = [metric.name for group in GROUPS.values() for metric in group]
    assert len(names) == len(set(names)) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"foreshock_[a-z0-9_]+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    ending = UNITS.get(metric.unit)
    assert ending is None or metric.name.removesuffix("_total").endswith(ending)
    assert not re.search(r"_(ms|millis|minutes|kib|mib|percent)(_|$)", metric.name), "base units only"
    assert (metric.kind == "histogram") == bool(metric.bounds)
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert metric.kind in get_args(Kind)
    assert set(metric.sources) <= set(get_args(Source))


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_each_says_what_it_means_and_what_to_do(metric: Metric) -> None:
    for text in (metric.meaning, metric.bad, metric.do):
        assert text.endswith("."), text
    assert metric.meaning[0].isupper()


def test_every_label_says_how_many_values_it_has_and_is_in_use() -> None:
    used = {label for metric in METRICS.values() for label in metric.labels}
    assert used == set(LABELS)
    assert not used & {"user", "user_id", "contract", "event_id", "offset", "key"}, "one value per borrower or event"


def test_a_sample_with_other_labels_than_its_metric_is_refused() -> None:
    scrape = Scrape()
    with pytest.raises(ValueError, match=r"foreshock_lag_records has the labels .*partition"):
        scrape.add(METRICS["foreshock_lag_records"], 1.0, "profiles")


def test_a_metric_without_samples_is_told_of() -> None:
    scrape = Scrape()
    scrape.add_all(METRICS["foreshock_dead_letters_total"], {})
    (family,) = scrape.families()
    assert (family.name, family.type, family.samples) == ("foreshock_dead_letters", "counter", [])
