"""The policy's numbers: where they come from, what is refused, and the version that names them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.alerts.policy import AlertPolicy, PolicyError
from stream.settings import Settings


@dataclass(frozen=True)
class Thresholds:
    medium: float
    high: float


POLICY = Settings().alert_policy(Thresholds(0.15, 0.3))


def test_numbers_come_from_the_bundle_and_the_settings():
    settings = Settings(
        alert_relative_rise=0.5,
        alert_absolute_rise=0.1,
        alert_sticky_events=3,
        alert_extreme_score=0.6,
        alert_cure_days=7,
        alert_cooldown_days=2,
        alert_dpd_backstop=15,
        baseline_half_life_events=10,
    )
    policy = settings.alert_policy(Thresholds(0.2, 0.4))
    assert (policy.medium, policy.high) == (0.2, 0.4)
    assert (policy.relative_rise, policy.absolute_rise, policy.sticky_events) == (0.5, 0.1, 3)
    assert (policy.extreme_score, policy.dpd_backstop, policy.high_backstop) == (0.6, 15, 30)
    assert (policy.cure_ms, policy.cooldown_ms) == (7 * 86_400_000, 2 * 86_400_000)
    assert policy.baseline_half_life_events == 10
    assert policy.deterioration_floor == 0.1


@given(half_life=st.floats(0.1, 10_000))
def test_a_scores_weight_in_the_baseline_halves_after_the_half_life(half_life: float):
    policy = replace(POLICY, baseline_half_life_events=half_life)
    assert (1 - policy.baseline_weight) ** half_life == pytest.approx(0.5)


def test_the_version_is_stable_and_short():
    assert POLICY.version == replace(POLICY).version
    assert POLICY.version == "63b12919c8d2", "unchanged numbers have another version: alerts in topics name the old one"
    assert replace(POLICY, cure_days=30).version == replace(POLICY, cure_days=30.0).version


@pytest.mark.parametrize("name", [field.name for field in fields(AlertPolicy)])
def test_every_number_is_part_of_the_version(name: str):
    value = getattr(POLICY, name)
    changed = {"medium": 0.16, "baseline_min_events": 9, "sticky_events": 3}.get(name, value * 0.75 + 0.1)
    assert replace(POLICY, **{name: changed}).version != POLICY.version


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("medium", 0.0),
        ("medium", float("nan")),
        ("high", 0.1),
        ("high", 1.5),
        ("relative_rise", float("inf")),
        ("absolute_rise", -0.1),
        ("sticky_events", 0),
        ("sticky_events", 256),
        ("extreme_score", 0.0),
        ("cure_days", -1.0),
        ("cooldown_days", float("nan")),
        ("dpd_backstop", 0.0),
        ("baseline_half_life_events", float("inf")),
        ("baseline_min_events", 0),
        ("deterioration_floor_share", 2.0),
        ("hysteresis", 1.1),
        ("high_backstop_multiple", 0.5),
    ],
)
def test_a_number_out_of_range_is_named(name: str, value: float):
    with pytest.raises(PolicyError, match=f"{name} is {value}"):
        replace(POLICY, **{name: value})


def test_the_documentation_gives_every_number_and_its_default():
    text = (Path(__file__).parents[4] / "docs" / "alerts.md").read_text(encoding="utf-8")
    rows = dict(line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `"))
    listed = {name.strip().strip("`"): default.strip() for name, default in rows.items()}
    for name, setting in Settings.model_fields.items():
        if name.startswith(("alert_", "baseline_")):
            assert listed.get(name) == f"{setting.default:g}", name
    for name in ("baseline_min_events", "deterioration_floor_share", "hysteresis", "high_backstop_multiple"):
        assert listed.get(name) == f"{getattr(POLICY, name):g}", name
