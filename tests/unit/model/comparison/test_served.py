"""A served model in the comparison: trained, exported, scored through its bundle, blind to the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.architectures import Architecture
from model.bundle import Bundle
from model.comparison.ensemble import NAME as ENSEMBLE
from model.comparison.problem import Problem
from model.comparison.roster import RosterError, chosen, roster
from model.comparison.served import Served, microseconds_per_event
from model.comparison.trial import run_trial

SMALL = Architecture(hidden=(8, 8, 4), profile_hidden=8, profile_embedding=4, fusion=8)


def test_scores_and_costs_are_those_of_the_bundle(problem: Problem, bars: Any, tmp_path: Path) -> None:
    # `run_trial` also changes and cuts off the futures of test users, and demands equal bits.
    trial = run_trial(Served("small", SMALL, epochs=1), problem, tmp_path, bars)
    bundle = Bundle.load(tmp_path / "simulator" / "small" / "bundle")
    assert bundle.manifest.training.seed == problem.seed
    assert trial.state_bytes == 4 * bundle.state_width
    assert 0 < trial.us_per_event < 1_000
    assert np.array_equal(trial.scores, trial.horizon_scores[:, bundle.headline], equal_nan=True)
    known = trial.horizon_scores[~np.isnan(trial.scores)]
    assert (np.diff(known, axis=1) >= 0).all()
    assert ((known >= 0) & (known <= 1)).all()
    nobody = microseconds_per_event(bundle, problem.sequences, np.zeros(0, np.int64))
    assert nobody is None
    with pytest.raises(RuntimeError, match="has not been fitted"):
        Served("small", SMALL, epochs=1).score(problem, problem.parts.test.users)


def test_settings_tell_architectures_and_schedules_apart() -> None:
    one = Served("small", SMALL, epochs=1).settings
    assert one != Served("small", SMALL, epochs=2).settings
    assert one != Served("small", replace(SMALL, fusion=16), epochs=1).settings
    assert one != Served("small", SMALL, epochs=1, weight_decay=1e-4).settings


def test_the_roster_holds_the_default_and_refuses_strangers() -> None:
    everyone = roster("taiwan", epochs=3)
    assert everyone["lstm-attention"]().name == "lstm-attention"
    assert {"oracle", "attainable"}.isdisjoint(everyone)
    assert chosen(everyone, ()) == (everyone, True)
    assert chosen(everyone, ["lstm-attention", "lstm-attention"])[0].keys() == {"lstm-attention"}
    assert chosen(everyone, ["lstm-attention", ENSEMBLE])[1]
    assert not chosen(everyone, ["lstm-attention"])[1]
    with pytest.raises(RosterError, match="no candidate is called xgboost; choose from lstm-attention"):
        chosen(everyone, ["xgboost"])
