"""The candidates by name. A candidate is imported only when it is chosen, since challengers need libraries of their
own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TypeAlias

from model.comparison.candidate import Candidate
from model.comparison.ensemble import NAME as ENSEMBLE
from model.comparison.targets import ATTAINABLE, ORACLE

Constructor: TypeAlias = Callable[[], Candidate]

BASELINES = "model.baselines"
ORACLE_SOURCES = frozenset({"simulator"})
"""Sources that know their own hazards."""


class RosterError(ValueError):
    """No candidate has the name; the message lists those that exist."""


def roster(source: str, epochs: int, weight_decay: float = 0.0, threads: int = 1) -> dict[str, Constructor]:
    """Every candidate for a source: served models, challengers, and the oracles where there are any.

    `epochs` and `weight_decay` are of the served models' training.
    """
    return {**_served(epochs, weight_decay, threads), **_challengers(), **_oracles(source)}


def chosen(everyone: Mapping[str, Constructor], names: Iterable[str]) -> tuple[dict[str, Constructor], bool]:
    """Those named, in the order of the roster, or all without names; and whether the ensemble is wanted.

    The ensemble is no candidate of its own: it needs a served model and a challenger among those chosen.
    """
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in everyone and name != ENSEMBLE]
    if unknown:
        known = ", ".join((*everyone, ENSEMBLE))
        raise RosterError(f"no candidate is called {', '.join(unknown)}; choose from {known}")
    if not wanted:
        return dict(everyone), True
    return {name: make for name, make in everyone.items() if name in wanted}, ENSEMBLE in wanted


def _served(epochs: int, weight_decay: float, threads: int) -> dict[str, Constructor]:
    from model.architectures import ARCHITECTURES
    from model.comparison.served import Served

    return {
        name: partial(Served, name, architecture, epochs, weight_decay, threads)
        for name, architecture in ARCHITECTURES.items()
    }


def _challengers() -> dict[str, Constructor]:
    return dict(import_module(BASELINES).CHALLENGERS) if find_spec(BASELINES) else {}


def _oracles(source: str) -> dict[str, Constructor]:
    if source not in ORACLE_SOURCES or not find_spec(BASELINES) or not find_spec(f"{BASELINES}.oracle"):
        return {}
    oracle = import_module(f"{BASELINES}.oracle")
    return {
        ORACLE: partial(oracle.Oracle, ORACLE, oracle.latent_hazards),
        ATTAINABLE: partial(oracle.Oracle, ATTAINABLE, oracle.told_hazards, oracle.VALIDATION_USERS),
    }
