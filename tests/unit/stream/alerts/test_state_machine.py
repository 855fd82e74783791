"""The alert state machine against a slow one written from its description, and what must hold of any sequence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.alerts.policy import AlertPolicy
from stream.alerts.state_machine import (
    ALERT_STATE,
    CLEARED,
    ESCALATED,
    NO_CHANGE,
    OPENED,
    Decision,
    advance,
    initial_state,
    transition_kind,
    trigger_names,
)

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000

POLICY = AlertPolicy(
    medium=0.15,
    high=0.3,
    relative_rise=1.0,
    absolute_rise=0.02,
    sticky_events=2,
    extreme_score=0.5,
    cure_days=30,
    cooldown_days=14,
    dpd_backstop=30,
    baseline_half_life_events=50,
)


@dataclass(frozen=True)
class Seen:
    """One event as the policy sees it; `days_past_due` None when they are those of the event before."""

    score: float
    day: float
    days_past_due: float | None = None


def take(policy: AlertPolicy, state: np.ndarray, seen: list[Seen], offset: int = 0) -> Decision:
    """One event for each of several users."""
    n = len(seen)
    before = state["days_past_due"].tolist()
    days = [last if one.days_past_due is None else one.days_past_due for one, last in zip(seen, before, strict=True)]
    return advance(
        policy,
        state,
        np.array([one.score for one in seen], dtype=np.float32),
        np.array(days, dtype=np.float32),
        np.zeros(n, dtype=np.bool_),
        np.array([START_MS + round(one.day * DAY_MS) for one in seen], dtype=np.int64),
        topic=np.full(n, offset % 4, dtype=np.uint8),
        partition=np.full(n, 7, dtype=np.int32),
        offset=np.full(n, offset, dtype=np.int64),
    )


def follow(policy: AlertPolicy, sequence: list[Seen]) -> list[Decision]:
    """One user's decisions, event by event."""
    state, decisions = initial_state(1), []
    for offset, seen in enumerate(sequence):
        decisions.append(take(policy, state, [seen], offset))
        state = decisions[-1].state
    return decisions


def transitions(decisions: list[Decision]) -> list[str]:
    """Names of one user's transitions, "-" for none, with the level that they lead to."""
    names = []
    for decision in decisions:
        kind = int(decision.transition[0])
        names.append(f"{transition_kind(kind)} {int(decision.level_to[0])}" if kind else "-")
    return names


def quiet(count: int, score: float = 0.02, start: float = 0.0, step: float = 1.0) -> list[Seen]:
    return [Seen(score, start + step * number) for number in range(count)]


@dataclass
class Desk:
    """The rules of docs/alerts.md for one user, spelled out without arrays. Floats are float32, as published."""

    policy: AlertPolicy
    level: int = 0
    clock: int | None = None
    days_past_due: float | None = None
    calls: list[int] = field(default_factory=list)
    mean: np.float32 = field(default_factory=lambda: np.float32(0))
    learnt: int = 0
    calm_since: int | None = None
    cooldown_until: int | None = None

    def see(self, score: np.float32, days_past_due: float | None, at_ms: int) -> tuple[str, int, set[str], np.float32]:
        """Transition, level of the alert after it, triggers, and the baseline that the score was compared with."""
        policy, before = self.policy, self.level
        self.clock = at_ms if self.clock is None else max(self.clock, at_ms)
        if days_past_due is not None:
            self.days_past_due = days_past_due
        baseline = self.mean if self.learnt else score
        by_level = 0
        if score >= np.float32(policy.medium):
            by_level = 1
        if score >= np.float32(policy.high):
            by_level = 2
        deteriorated = self._above(score, 1.0)
        self.calls.append(1 if deteriorated and by_level == 0 else by_level)
        confirmed = self._confirmed(score)
        if before == 0 and self.cooldown_until is not None and self.clock < self.cooldown_until:
            confirmed = 0
        by_days = 0
        if self.days_past_due is not None and self.days_past_due >= policy.dpd_backstop:
            by_days = 2 if self.days_past_due >= 2 * policy.dpd_backstop else 1
        transition, triggers = "none", set()
        if max(confirmed, by_days) > before:
            self.level = max(confirmed, by_days)
            transition = "escalated" if before else "opened"
            if min(by_level, confirmed) > before:
                triggers.add("level")
            if deteriorated and confirmed >= 1 and before == 0:
                triggers.add("deterioration")
            if by_days > before:
                triggers.add("days_past_due")
        if before and self._is_calm(score):
            if self.calm_since is None:
                self.calm_since = self.clock
            if self.clock - self.calm_since >= policy.cure_ms:
                transition, self.level, self.calm_since = "cleared", 0, None
                self.cooldown_until = self.clock + policy.cooldown_ms
        else:
            self.calm_since = None
        if self.level == 0 and (self.calls[-1] == 0 or self.learnt < policy.baseline_min_events):
            self._learn(score)
        return transition, self.level, triggers, baseline

    def _above(self, score: np.float32, share: float) -> bool:
        policy = self.policy
        return bool(
            self.learnt >= policy.baseline_min_events
            and score >= self.mean * np.float32(1.0 + policy.relative_rise * share)
            and score >= self.mean + np.float32(policy.absolute_rise * share)
            and score >= np.float32(policy.deterioration_floor * share)
        )

    def _confirmed(self, score: np.float32) -> int:
        recent = self.calls[-self.policy.sticky_events :]
        held = min(recent) if len(recent) == self.policy.sticky_events else 0
        at_once = self.calls[-1] if score >= np.float32(self.policy.extreme_score) else 0
        return max(held, at_once)

    def _is_calm(self, score: np.float32) -> bool:
        return (
            score < np.float32(self.policy.medium * self.policy.hysteresis)
            and not self._above(score, self.policy.hysteresis)
            and not (self.days_past_due is not None and self.days_past_due >= self.policy.dpd_backstop)
        )

    def _learn(self, score: np.float32) -> None:
        weight = max(np.float32(1) / np.float32(self.learnt + 1), np.float32(self.policy.baseline_weight))
        self.mean = self.mean + (score - self.mean) * weight
        self.learnt += 1


SCORES = st.one_of(
    st.sampled_from([0.0, 0.01, 0.03, 0.06, 0.074, 0.08, 0.119, 0.12, 0.15, 0.2, 0.3, 0.45, 0.5, 0.9, 1.0]),
    st.floats(0, 1, width=32),
)
DAYS_PAST_DUE = st.one_of(st.none(), st.sampled_from([-5.0, 0.0, 3.0, 29.0, 30.0, 59.0, 60.0, 400.0]))
STEPS = st.one_of(st.sampled_from([0.0, 1.0, 5.0, 14.0, 30.0]), st.floats(-3, 40, width=32))


@st.composite
def sequences(draw: st.DrawFn, least: int = 1, most: int = 60) -> list[Seen]:
    """Events of one user in order of arrival: runs of similar scores, some events late."""
    day, sequence = 5.0, []
    while len(sequence) < least or (len(sequence) < most and draw(st.booleans())):
        score = draw(SCORES)
        for _ in range(draw(st.integers(1, 12))):
            day += draw(STEPS)
            sequence.append(Seen(score, max(day, 0.0), draw(DAYS_PAST_DUE)))
    return sequence[:most]


POLICIES = st.builds(
    replace,
    st.just(POLICY),
    relative_rise=st.sampled_from([0.0, 0.5, 1.0]),
    absolute_rise=st.sampled_from([0.0, 0.02, 0.2]),
    sticky_events=st.integers(1, 4),
    extreme_score=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    cure_days=st.sampled_from([0.0, 3.0, 30.0]),
    cooldown_days=st.sampled_from([0.0, 14.0, 90.0]),
    baseline_half_life_events=st.sampled_from([1.0, 5.0, 50.0]),
    baseline_min_events=st.sampled_from([1, 8]),
    hysteresis=st.sampled_from([0.5, 0.8, 1.0]),
)


@given(policy=POLICIES, sequence=sequences())
@settings(max_examples=150, deadline=None)
def test_it_decides_what_the_rules_say(policy: AlertPolicy, sequence: list[Seen]):
    desk = Desk(policy)
    for number, (seen, decision) in enumerate(zip(sequence, follow(policy, sequence), strict=True)):
        score = np.float32(seen.score)
        kind, level, triggers, baseline = desk.see(score, seen.days_past_due, START_MS + round(seen.day * DAY_MS))
        state = decision.state[0]
        transition = int(decision.transition[0])
        assert (transition_kind(transition) if transition else "none") == kind, number
        assert int(decision.level_to[0]) == int(state["level"]) == level
        assert set(trigger_names(int(decision.triggers[0]))) == triggers
        assert decision.baseline[0] == baseline
        assert decision.delta[0] == score - baseline
        assert (int(state["baseline_count"]), state["baseline"]) == (desk.learnt, desk.mean)
        assert int(decision.time_ms[0]) == int(state["watermark_ms"]) == desk.clock
        assert int(state["calm_since_ms"]) == (-1 if desk.calm_since is None else desk.calm_since)
        assert int(state["cooldown_until_ms"]) == (-1 if desk.cooldown_until is None else desk.cooldown_until)


@given(policy=POLICIES, sequence=sequences(least=20, most=80))
@settings(deadline=None)
def test_what_holds_of_any_sequence(policy: AlertPolicy, sequence: list[Seen]):
    level, clock, quiet_until = 0, -1, -1
    for offset, (seen, decision) in enumerate(zip(sequence, follow(policy, sequence), strict=True)):
        transition, now = int(decision.transition[0]), int(decision.time_ms[0])
        level_from, level_to = int(decision.level_from[0]), int(decision.level_to[0])
        triggers = trigger_names(int(decision.triggers[0]))
        assert now >= clock, "time goes on only"
        assert level_from == level, "each decision starts where the one before ended"
        if transition == OPENED:
            assert level_from == 0 < level_to
            assert now >= quiet_until or triggers == ["days_past_due"], "the cooldown yields to the backstop only"
            opened = decision.state[0]
            assert (int(opened["opened_offset"]), int(opened["opened_topic"])) == (offset, offset % 4)
            assert (int(opened["opened_partition"]), int(opened["opened_ms"])) == (7, now)
        elif transition == ESCALATED:
            assert 0 < level_from < level_to
        elif transition == CLEARED:
            assert (level_from > 0, level_to) == (True, 0)
            assert seen.score < policy.medium
            quiet_until = now + policy.cooldown_ms
        else:
            assert transition == NO_CHANGE
            assert level_to == level_from
        assert bool(triggers) == (transition in (OPENED, ESCALATED)), "a rise has a cause, nothing else has"
        assert decision.changed.tolist() == ([0] if transition else [])
        known = decision.days_past_due[0]
        if known >= policy.dpd_backstop:
            assert level_to >= 1, "the backstop always fires"
        if known >= 2 * policy.dpd_backstop:
            assert level_to == 2
        level, clock = level_to, now


@given(data=st.data(), policy=POLICIES, users=st.lists(sequences(least=6, most=6), min_size=2, max_size=40))
@settings(max_examples=30, deadline=None)
def test_a_user_does_not_depend_on_who_else_is_in_the_batch(
    data: st.DataObject, policy: AlertPolicy, users: list[list[Seen]]
):
    together = split = initial_state(len(users))
    order = np.array(data.draw(st.permutations(range(len(users)))))
    cut = data.draw(st.integers(1, len(users) - 1))
    for step in range(6):
        seen = [sequence[step] for sequence in users]
        whole = take(policy, together, seen, step)
        together, parts = whole.state, split.copy()
        for rows in (order[:cut], order[cut:]):
            part = take(policy, split[rows], [seen[row] for row in rows], step)
            parts[rows] = part.state
            for name in ("level", "baseline", "delta", "days_past_due", "time_ms", "transition", "triggers"):
                assert getattr(part, name).tobytes() == getattr(whole, name)[rows].tobytes()
        split = parts
        assert split.tobytes() == together.tobytes()


def test_any_length_gives_the_same_bits():
    rng = np.random.default_rng(5)
    n = 133
    state = initial_state(n)
    state["baseline"], state["baseline_count"] = rng.random(n), rng.integers(0, 40, n)
    score = rng.random(n).astype(np.float32)
    days = np.full(n, np.nan, dtype=np.float32)
    at, zeros = np.full(n, START_MS), np.zeros(n, dtype=np.int64)

    def run(rows: slice) -> bytes:
        decision = advance(
            POLICY, state[rows], score[rows], days[rows], days[rows] > 500, at[rows],
            topic=zeros[rows].astype(np.uint8), partition=zeros[rows].astype(np.int32), offset=zeros[rows],
        )  # fmt: skip
        return decision.state.tobytes() + decision.delta.tobytes()

    whole = run(slice(None))
    size = ALERT_STATE.itemsize
    for length in range(1, 70):
        part = run(slice(3, 3 + length))
        assert part[: length * size] == whole[3 * size : (3 + length) * size]
        assert part[length * size :] == whole[n * size + 12 : n * size + 12 + 4 * length]


def test_the_callers_state_is_not_changed_and_may_lie_in_wide_rows():
    rows = np.zeros(3, dtype=[("before", "u1", (5,)), ("alert", ALERT_STATE), ("after", "f4", (100,))])
    rows["alert"] = initial_state(3)
    untouched = rows.tobytes()
    decision = take(POLICY, rows["alert"], [Seen(0.9, 0), Seen(0.01, 0), Seen(0.2, 0, 31.0)])
    assert rows.tobytes() == untouched
    assert decision.transition.tolist() == [OPENED, NO_CHANGE, OPENED]
    assert decision.changed.tolist() == [0, 2]


def test_the_state_has_no_padding():
    assert ALERT_STATE.itemsize == 64
    assert sum(ALERT_STATE[name].itemsize for name in ALERT_STATE.names or ()) == 64


def test_no_events_are_fine():
    decision = take(POLICY, initial_state(0), [])
    assert (len(decision.state), len(decision.level), len(decision.changed)) == (0, 0, 0)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_an_error(score: float):
    with pytest.raises(ValueError, match=r"score of row 1 is (nan|inf)"):
        take(POLICY, initial_state(2), [Seen(0.1, 0), Seen(score, 0)])


# What docs/alerts.md tells, one sentence each.


def test_a_rise_must_hold():
    assert transitions(follow(POLICY, [*quiet(3), Seen(0.2, 3), Seen(0.02, 4), Seen(0.2, 5), Seen(0.2, 6)])) == [
        *["-"] * 6,
        "opened 1",
    ]


def test_an_extreme_score_need_not_hold():
    assert transitions(follow(POLICY, [*quiet(3), Seen(0.5, 3)]))[-1] == "opened 2"


def test_high_must_hold_as_high():
    names = transitions(follow(POLICY, [Seen(0.2, 0), Seen(0.4, 1), Seen(0.4, 2), Seen(0.01, 3), Seen(0.2, 4)]))
    assert names == ["-", "opened 1", "escalated 2", "-", "-"]


def test_double_ones_own_baseline_is_a_deterioration_below_the_thresholds():
    decisions = follow(POLICY, [*quiet(20, 0.05), Seen(0.11, 20), Seen(0.11, 21)])
    assert transitions(decisions)[-2:] == ["-", "opened 1"]
    assert trigger_names(int(decisions[-1].triggers[0])) == ["deterioration"]
    assert int(decisions[-1].level[0]) == 0, "the score's own level is LOW"


@pytest.mark.parametrize(
    ("usual", "risen"),
    [(0.01, 0.07), (0.08, 0.14)],
    ids=["below the floor of half the medium threshold", "not twice the baseline"],
)
def test_a_rise_that_is_no_deterioration(usual: float, risen: float):
    assert set(transitions(follow(POLICY, [*quiet(20, usual), *quiet(5, risen, start=20)]))) == {"-"}


def test_the_absolute_rise_must_hold_too():
    policy = replace(POLICY, relative_rise=0.1, absolute_rise=0.05)
    assert set(transitions(follow(policy, [*quiet(20, 0.08), *quiet(5, 0.12, start=20)]))) == {"-"}
    assert "opened 1" in transitions(follow(policy, [*quiet(20, 0.08), *quiet(5, 0.14, start=20)]))


def test_no_deterioration_without_enough_history():
    assert set(transitions(follow(POLICY, [*quiet(7, 0.03), *quiet(1, 0.14, start=7)]))) == {"-"}


def test_a_slide_does_not_become_its_own_baseline():
    decisions = follow(POLICY, [*quiet(20, 0.02), *quiet(40, 0.2, start=20)])
    assert decisions[-1].baseline[0] == pytest.approx(0.02, rel=1e-5)
    assert int(decisions[-1].state[0]["baseline_count"]) == 20


def test_the_baseline_is_a_plain_mean_at_first_and_fades_later():
    policy = replace(POLICY, baseline_half_life_events=10.0)
    scores = [0.01, 0.03, 0.02, 0.06]
    early = follow(policy, [Seen(score, day) for day, score in enumerate(scores)])
    assert early[0].delta[0] == 0
    assert early[-1].state[0]["baseline"] == pytest.approx(np.mean(scores))
    late = follow(policy, [*quiet(200, 0.02), *quiet(10, 0.03, start=200)])
    assert late[-1].state[0]["baseline"] == pytest.approx(0.025, rel=1e-4), "half of the way after the half-life"


def test_the_backstop_fires_at_once_and_twice_it_is_high():
    decisions = follow(POLICY, [Seen(0.01, 0, 29.9), Seen(0.01, 1, 30), Seen(0.01, 2), Seen(0.01, 40, 60)])
    assert transitions(decisions) == ["-", "opened 1", "-", "escalated 2"]
    assert [trigger_names(int(decision.triggers[0])) for decision in decisions if decision.triggers[0]] == [
        ["days_past_due"],
        ["days_past_due"],
    ]
    assert decisions[2].days_past_due[0] == 30, "an event that does not say leaves the last known"


def test_an_open_alert_clears_after_the_cure_period_of_calm():
    opened = [Seen(0.9, 0)]
    calm = [Seen(0.02, 10), Seen(0.02, 39.9), Seen(0.02, 40)]
    assert transitions(follow(POLICY, opened + calm)) == ["opened 2", "-", "-", "cleared 0"]


def test_calm_that_is_interrupted_starts_anew():
    days = [Seen(0.9, 0), Seen(0.02, 10), Seen(0.16, 30), Seen(0.02, 41), Seen(0.02, 70), Seen(0.02, 71)]
    assert transitions(follow(POLICY, days)) == ["opened 2", "-", "-", "-", "-", "cleared 0"]


def test_hovering_just_below_the_threshold_is_no_calm():
    assert set(transitions(follow(POLICY, [Seen(0.9, 0), *quiet(60, 0.13, start=1)]))[1:]) == {"-"}


@pytest.mark.parametrize(("score", "cured"), [(0.095, False), (0.085, True)])
def test_calm_after_a_deterioration_is_well_below_what_raised_it(score: float, cured: bool):
    rise = [*quiet(20, 0.05), *quiet(2, 0.12, start=20)]
    names = transitions(follow(POLICY, [*rise, *quiet(31, score, start=22)]))
    assert names[21] == "opened 1"
    assert names[-1] == ("cleared 0" if cured else "-")


def test_nobody_is_cured_while_past_the_backstop():
    names = transitions(follow(POLICY, [Seen(0.01, 0, 31), *quiet(50, start=1), Seen(0.01, 51, 0), Seen(0.01, 81)]))
    assert set(names[1:-1]) == {"-"}
    assert names[-1] == "cleared 0"


CLEARED_AT_40 = [Seen(0.9, 0), Seen(0.02, 10), Seen(0.02, 40)]


def test_the_cooldown_holds_back_even_extremes():
    names = transitions(follow(POLICY, [*CLEARED_AT_40, Seen(0.9, 41), Seen(0.9, 53.9), Seen(0.2, 54)]))
    assert names[3:] == ["-", "-", "opened 1"], "what held through the cooldown opens as it ends"


def test_the_cooldown_does_not_hold_back_the_backstop():
    decisions = follow(POLICY, [*CLEARED_AT_40, Seen(0.4, 41), Seen(0.4, 42, 35), Seen(0.4, 43)])
    assert transitions(decisions)[3:] == ["-", "opened 1", "escalated 2"]
    assert trigger_names(int(decisions[4].triggers[0])) == ["days_past_due"], "what was held back moved nothing"
    assert trigger_names(int(decisions[5].triggers[0])) == ["level"]


def test_a_late_event_does_not_turn_time_back():
    decisions = follow(POLICY, [Seen(0.9, 50), Seen(0.02, 60), Seen(0.02, 3), Seen(0.02, 90)])
    assert transitions(decisions) == ["opened 2", "-", "-", "cleared 0"]
    assert int(decisions[2].time_ms[0]) == START_MS + 60 * DAY_MS


def test_cleared_alerts_still_name_the_event_that_opened_them():
    cleared = follow(POLICY, [Seen(0.01, -1), *CLEARED_AT_40])[-1].state[0]
    assert (int(cleared["opened_offset"]), int(cleared["opened_topic"])) == (1, 1)
    assert int(cleared["opened_ms"]) == START_MS
    assert int(cleared["level"]) == 0


def test_streaks_do_not_wrap():
    policy = replace(POLICY, sticky_events=255)
    decisions = follow(policy, quiet(600, 0.2))
    assert transitions(decisions).index("opened 1") == 254
    assert int(decisions[-1].state[0]["held_medium"]) == 255
