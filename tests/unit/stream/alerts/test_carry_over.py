"""What goes over of an alert, for any two states."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.alerts.carry_over import CARRIED, carry_over, is_alerted
from stream.alerts.state_machine import ALERT_STATE, HIGH, LOW, MEDIUM, initial_state


@st.composite
def states(draw: st.DrawFn, users: int = 4) -> Any:
    found = initial_state(users)
    for row in range(users):
        if draw(st.booleans()):
            found["opened_ms"][row] = draw(st.integers(0, 10**12))
            found["opened_offset"][row] = draw(st.integers(0, 1000))
            found["opened_topic"][row] = draw(st.integers(0, 3))
            found["opened_partition"][row] = draw(st.integers(0, 9))
            found["level"][row] = draw(st.sampled_from([LOW, MEDIUM, HIGH]))
            found["calm_since_ms"][row] = draw(st.integers(-1, 10**12))
            found["cooldown_until_ms"][row] = draw(st.integers(-1, 10**12))
        found["baseline"][row] = draw(st.floats(0, 1, width=32))
        found["held_medium"][row] = draw(st.integers(0, 255))
        found["watermark_ms"][row] = draw(st.integers(-1, 10**12))
    return found


@given(states(), states())
def test_the_alert_is_the_formers_and_all_else_the_models_own(own: Any, former: Any) -> None:
    before = own.tobytes()
    after = carry_over(own, former)
    assert own.tobytes() == before
    for name in ALERT_STATE.names or ():
        if name in CARRIED:
            assert (after[name] == former[name]).all(), name
        elif name == "calm_since_ms":
            both = (own["level"] != LOW) & (former["level"] != LOW)
            assert (after[name] == np.where(both, own[name], -1)).all()
        else:
            np.testing.assert_array_equal(after[name], own[name], name)


@given(states())
def test_who_never_had_an_alert_takes_over_none(former: Any) -> None:
    """So those need not be told of."""
    none = initial_state(len(former))
    quiet = ~is_alerted(former)
    for name in CARRIED:
        assert (former[name][quiet] == none[name][quiet]).all()
