"""Changed histories are scored by the served graphs: an unchanged one gives the same bits as playing it back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from events.types import KINDS, Event
from model.bundle import Bundle
from model.evaluation.playback import score_sequences
from model.explanation.rescoring import contracts_of, history_of, log_odds, readouts_of, score_histories, trace
from model.histories.sequences import build_sequences

MakeHistory = Callable[..., list[Event]]


def score(bundle: Bundle, *histories: list[Event]) -> np.ndarray:
    return score_histories(bundle, [history_of(events, bundle) for events in histories])


def test_unchanged_histories_score_as_played_back(random_bundle: Bundle, make_history: MakeHistory) -> None:
    histories = [make_history(f"u{number}", 5 + 17 * number, number) for number in range(4)]
    sequences = build_sequences((event for events in histories for event in events), random_bundle.vocabularies)
    played = score_sequences(random_bundle, sequences)[sequences.merged_starts[1:] - 1]
    assert np.array_equal(score(random_bundle, *histories), played)


def test_a_history_without_events_scores_as_nothing_known(random_bundle: Bundle) -> None:
    nothing = np.zeros((1, random_bundle.readout_width), dtype=np.float32)
    never = np.full((1, len(KINDS)), -1, dtype=np.float32)
    assert np.array_equal(score(random_bundle, []), random_bundle.score(nothing, never))


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_out_rows_is_leaving_out_events(random_bundle: Bundle, make_history: MakeHistory, kind: str) -> None:
    events = make_history("u", 60, 3)
    history = history_of(events, random_bundle)
    of_kind = [event for event in events if kind == event.KIND]
    gone = {id(of_kind[2]), id(of_kind[-1])}
    rest = [event for event in events if id(event) not in gone]
    (contracts,) = contracts_of([rest], random_bundle)
    changed = {**history, kind: history[kind].without(np.array([2, len(of_kind) - 1]), contracts)}
    changed["repayments"] = changed["repayments"].with_contracts(contracts)
    expected = score(random_bundle, rest)
    assert np.array_equal(score_histories(random_bundle, [changed]), expected)


def test_what_follows_a_known_state_comes_to_the_same(random_bundle: Bundle, make_history: MakeHistory) -> None:
    history = history_of(make_history("u", 80, 4), random_bundle)
    for done in (0, 1, 7):
        tails = {kind: branch.since(done, trace(random_bundle, branch)[0][done]) for kind, branch in history.items()}
        assert np.array_equal(score_histories(random_bundle, [tails]), score_histories(random_bundle, [history]))


def test_a_trace_ends_where_the_history_ends(random_bundle: Bundle, make_history: MakeHistory) -> None:
    history = history_of(make_history("u", 50, 5), random_bundle)
    readouts = readouts_of(random_bundle, [history])
    for kind, branch in history.items():
        states, logits = trace(random_bundle, branch)
        assert (len(states), len(logits)) == (len(branch) + 1, len(branch))
        assert not states[0].any()
        width = random_bundle.readout_widths[kind]
        assert np.array_equal(states[-1, :width], readouts[0, random_bundle.readout_slices[kind]])


def test_another_value_in_a_row_changes_the_score_and_not_the_original(
    random_bundle: Bundle, make_history: MakeHistory
) -> None:
    history = history_of(make_history("u", 50, 6), random_bundle)
    branch = history["transactions"]
    before = branch.numeric.copy()
    other = branch.replaced(3, branch.numeric[3] * 5 + 1, branch.categorical[3])
    found = score_histories(random_bundle, [history, {**history, "transactions": other}])
    assert not np.array_equal(found[0], found[1])
    assert np.array_equal(branch.numeric, before, equal_nan=True)


def test_log_odds_stay_finite() -> None:
    found = log_odds(np.array([0.0, 0.5, 1.0], dtype=np.float32))
    assert np.isfinite(found).all()
    assert found[1] == 0
    assert found[0] == pytest.approx(-found[2])
