"""Figures of a candidate on the test parts of a setting: ranking, calibration, early warning, with intervals by user.

Ranking is measured within each problem and averaged, because scores of models fitted apart are not comparable in rank;
calibration and alerts are pooled, because probabilities and budgets are. Holds no threshold that a target depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.comparison.budget import UserAlerts, alerts_by_user, operate_at, recall_bound
from model.comparison.examples import Examples, examples_of
from model.comparison.problem import Problem
from model.comparison.resampling import Weights, calibration, draw_users, interval, ranking, weighted_quantile
from model.comparison.segments import Segments, segments
from model.comparison.trial import Trial
from model.comparison.worth import days_ahead_of_rule, saved
from model.statistics.metrics import calibration_error_by_chance, roc_auc

BUDGETS = (5.0, 15.0, 40.0)
"""Alerts per 1,000 users and month. The first is the table's; the others are those that bundles are shipped with."""
DIGITS = 5
INFLATED = frozenset({"ece"})
BY_CHANCE = "ece_by_chance"
"""Calibration error that right scores would show on as many examples; not resampled."""
Draws = dict[str, NDArray[np.float64]]
"""Values of figures per resample, the sample itself first."""


@dataclass(frozen=True)
class Court:
    """What all candidates of a setting are judged by: examples, segments and bootstrap draws, made once."""

    problems: Sequence[Problem]
    examples: Sequence[Examples]
    segments: Sequence[Sequence[Segments]]
    weights: Sequence[Weights]

    @classmethod
    def convene(cls, problems: Sequence[Problem], resamples: int) -> Court:
        """Draws depend on the problems' seed and sizes alone, so two candidates can be compared draw by draw."""
        return cls(
            problems=problems,
            examples=[examples_of(problem, problem.parts.test) for problem in problems],
            segments=[segments(problem.sequences) for problem in problems],
            weights=[
                draw_users(len(problem.parts.test.users), resamples, problem.seed + number)
                for number, problem in enumerate(problems)
            ],
        )

    def places(self, number: int, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """Columns of a problem's weights that belong to `users`."""
        test = self.problems[number].parts.test.users
        order = np.argsort(test)
        place: NDArray[np.int64] = order[np.searchsorted(test, users, sorter=order)]
        return place


@dataclass(frozen=True)
class Figures:
    """The results of a candidate: the row of the table, details, and the draws that differences are taken from."""

    row: dict[str, Any]
    horizons: dict[str, dict[str, Any]]
    segments: dict[str, dict[str, dict[str, Any]]]
    budgets: dict[str, dict[str, Any]]
    draws: Draws = field(repr=False)


def figures(court: Court, trials: Sequence[Trial], budgets: Sequence[float] = BUDGETS) -> Figures:
    """Figures of one candidate's trials, in the order of the court's problems."""
    headline = court.problems[0].headline_days
    at_headline = _judged(court, trials, headline, None)
    by_budget = {budget: _alerts(court, trials, budget) for budget in budgets}
    table = by_budget[budgets[0]]
    draws: Draws = at_headline | table.draws
    row = {
        "name": trials[0].name,
        "kind": trials[0].kind,
        **_with_intervals(at_headline),
        **_with_intervals(table.draws),
        "recall_bound": _rounded(table.bound),
        "us_per_event": _least([trial.us_per_event for trial in trials]),
        "state_bytes": _largest([trial.state_bytes for trial in trials]),
        "fit_seconds": _mean([trial.fit_seconds for trial in trials]),
        "validation_auc": _rounded(validation_auc(court.problems, trials)),
    }
    horizons = court.problems[0].horizons_days if court.problems[0].task == "hazard" else (headline,)
    return Figures(
        row=row,
        horizons={str(days): _of_horizon(court, trials, days) for days in horizons},
        segments=_by_segment(court, trials, headline),
        budgets={f"{budget:g}": found.described() for budget, found in by_budget.items()},
        draws=draws,
    )


def validation_auc(problems: Sequence[Problem], trials: Sequence[Trial]) -> float | None:
    """Mean AUC over the problems' validation parts at the headline horizon; candidates may be chosen by it."""
    found = []
    for problem, trial in zip(problems, trials, strict=True):
        rows, _, happened = examples_of(problem, problem.parts.validation).of(problem.headline_days)
        scored = ~np.isnan(trial.scores[rows])
        found.append(roc_auc(happened[scored], trial.scores[rows][scored]))
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def _judged(
    court: Court, trials: Sequence[Trial], horizon_days: int, wanted: Sequence[NDArray[np.bool_]] | None
) -> Draws:
    """Ranking and calibration at a horizon, of all examples or of those whose rows are `wanted`."""
    ranked: list[Draws] = []
    happened_, scores_, users_ = [], [], []
    offset, are_probabilities = 0, True
    for number, (problem, trial) in enumerate(zip(court.problems, trials, strict=True)):
        rows, users, happened = court.examples[number].of(horizon_days)
        if wanted is not None:
            chosen = wanted[number][rows]
            rows, users, happened = rows[chosen], users[chosen], happened[chosen]
        scores, calibrated = _scores_at(problem, trial, horizon_days)
        are_probabilities &= calibrated
        places = court.places(number, users)
        ranked.append(ranking(happened, scores[rows], places, court.weights[number]))
        happened_.append(happened)
        scores_.append(scores[rows])
        users_.append(places + offset)
        offset += court.weights[number].shape[1]
    draws = {name: _mean_of_known([each[name] for each in ranked]) for name in ("auc", "pr_auc", "ks")}
    pooled = np.concatenate(court.weights, axis=1)
    if not are_probabilities:
        return draws | {name: np.full(len(pooled), np.nan) for name in ("brier", "ece", BY_CHANCE)}
    scores = np.concatenate(scores_)
    found = calibration(np.concatenate(happened_), scores, np.concatenate(users_), pooled)
    by_chance = calibration_error_by_chance(scores)
    return draws | found | {BY_CHANCE: np.array([np.nan if by_chance is None else by_chance])}


def _scores_at(problem: Problem, trial: Trial, horizon_days: int) -> tuple[NDArray[np.float32], bool]:
    """A trial's scores for a horizon, and whether they are probabilities of that horizon. Candidates that score the
    headline alone are ranked by it at every horizon."""
    if horizon_days == problem.headline_days:
        return trial.scores, trial.is_probability
    if trial.horizon_scores is not None:
        return trial.horizon_scores[:, problem.horizons_days.index(horizon_days)], trial.is_probability
    return trial.scores, False


@dataclass(frozen=True)
class _Alerts:
    draws: Draws
    bound: float | None
    default_count: int
    thresholds: list[dict[str, float | None]]

    def described(self) -> dict[str, Any]:
        return {
            **_with_intervals(self.draws),
            "recall_bound": _rounded(self.bound),
            "onsets": self.default_count,  # the report's key
            "thresholds": self.thresholds,
        }


def _alerts(court: Court, trials: Sequence[Trial], budget: float) -> _Alerts:
    """Thresholds from each problem's validation, counts over all test parts."""
    sums: dict[str, NDArray[np.float64]] = {}
    leads, lead_weights, bounds, thresholds, ahead = [], [], [], [], []
    default_count = 0
    for number, (problem, trial) in enumerate(zip(court.problems, trials, strict=True)):
        sequences, owner = problem.sequences, problem.sequences.user_of_event
        rows = problem.example_rows(problem.parts.validation)
        rows = rows[~np.isnan(trial.scores[rows])]  # an oracle is asked for a sample of users
        operating = operate_at(sequences.times_ms[rows], owner[rows], trial.scores[rows], budget)
        rows = problem.example_rows(problem.parts.test)
        found = alerts_by_user(
            sequences.times_ms[rows], owner[rows], trial.scores[rows], problem.truth, operating, problem.headline_days
        )
        drawn, test = court.weights[number], problem.parts.test.users
        for name in ("months", "alerts", "answered", "true", "defaulted", "caught", "early"):
            sums[name] = sums.get(name, 0.0) + drawn @ getattr(found, name)[test]
        worth = saved(problem, trial, budget)
        for name in ("alerts", "at_default", "saved"):
            sums[f"valued_{name}"] = sums.get(f"valued_{name}", 0.0) + drawn @ getattr(worth, name)[test]
        ahead.append(days_ahead_of_rule(problem, found))
        leads.append(found.lead_days)
        lead_weights.append(drawn[:, court.places(number, found.lead_user)] * found.lead_weight)
        bounds.append(found)
        default_count += int(found.defaulted.sum())
        thresholds.append(
            {
                "upper": None if np.isinf(operating.upper) else float(operating.upper),
                "lower": None if np.isinf(operating.lower) else float(operating.lower),
                "of_lower": _rounded(operating.of_lower),
            }
        )
    return _Alerts(
        _ratios(sums, np.concatenate(leads), np.concatenate(ahead), np.concatenate(lead_weights, axis=1)),
        _bound(bounds, budget),
        default_count,
        thresholds,
    )


def _ratios(
    sums: dict[str, NDArray[np.float64]],
    leads: NDArray[np.float64],
    ahead: NDArray[np.float64],
    lead_weights: NDArray[np.float64],
) -> Draws:
    def share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)

    rate = 1000.0 * share(sums["alerts"], sums["months"])
    precision = share(sums["true"], sums["answered"])
    return {
        "recall_at_budget": share(sums["caught"], sums["defaulted"]),
        "precision_at_budget": precision,
        "lower_quartile_lead_days": weighted_quantile(leads, lead_weights, 0.25),
        "median_lead_days": weighted_quantile(leads, lead_weights, 0.5),
        "upper_quartile_lead_days": weighted_quantile(leads, lead_weights, 0.75),
        "lead_days_per_onset": share(lead_weights @ leads, sums["defaulted"]),
        "caught_30_days_ahead": share(sums["early"], sums["defaulted"]),
        "median_days_ahead_of_rule": weighted_quantile(ahead, lead_weights, 0.5),
        "exposure_saved": share(sums["valued_saved"], sums["valued_at_default"]),
        "exposure_saved_per_alert": share(sums["valued_saved"], sums["valued_alerts"]),
        "alerts_per_1000_user_months": rate,
        "false_alarms_per_1000_user_months": rate * (1.0 - precision),
    }


def _bound(found: Sequence[UserAlerts], budget: float) -> float | None:
    names = UserAlerts.__dataclass_fields__
    return recall_bound(UserAlerts(**{n: np.concatenate([getattr(each, n) for each in found]) for n in names}), budget)


def _of_horizon(court: Court, trials: Sequence[Trial], days: int) -> dict[str, Any]:
    outcomes = [examples.of(days)[2] for examples in court.examples]
    return {
        **_with_intervals(_judged(court, trials, days, None)),
        "examples": sum(len(each) for each in outcomes),
        "positives": int(sum(each.sum() for each in outcomes)),
    }


def _by_segment(court: Court, trials: Sequence[Trial], headline: int) -> dict[str, dict[str, dict[str, Any]]]:
    plain = Court(court.problems, court.examples, court.segments, [weights[:1] for weights in court.weights])
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for way, of_way in enumerate(zip(*court.segments, strict=True)):
        names = sorted({name for each in of_way for name in each.names}, key=_order(of_way))
        for name in names:
            wanted = [
                each.of_event == each.names.index(name) if name in each.names else np.zeros(len(each.of_event), bool)
                for each in of_way
            ]
            asked = [(examples.of(headline), chosen) for examples, chosen in zip(court.examples, wanted, strict=True)]
            count = sum(int(chosen[rows].sum()) for (rows, _, _), chosen in asked)
            if count:
                draws = _judged(plain, trials, headline, wanted)
                found.setdefault(court.segments[0][way].by, {})[name] = {
                    **{key: _rounded(float(values[0])) for key, values in draws.items()},
                    "examples": count,
                    "positives": int(sum(happened[chosen[rows]].sum() for (rows, _, happened), chosen in asked)),
                }
    return found


def _order(of_way: Sequence[Segments]) -> Any:
    """In the order of the first problem that has the name; products of other folds' vocabularies come after."""
    ranks: dict[str, int] = {}
    for each in of_way:
        for name in each.names:
            ranks.setdefault(name, len(ranks) if name != "unknown" else 1_000)
    return ranks.__getitem__


def _with_intervals(draws: Draws) -> dict[str, float | None]:
    """Each figure as `name`, `name_low` and `name_high`."""
    row: dict[str, float | None] = {}
    for name, values in draws.items():
        found = interval(values, biased_upwards=name in INFLATED)
        row |= {name: _rounded(found.point), f"{name}_low": _rounded(found.low), f"{name}_high": _rounded(found.high)}
    return row


def _mean_of_known(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    table = np.array(values)
    known = np.isfinite(table)
    total = np.where(known, table, 0.0).sum(0)
    mean: NDArray[np.float64] = np.divide(total, known.sum(0), out=np.full(table.shape[1], np.nan), where=known.any(0))
    return mean


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 3) if known else None


def _least(values: Sequence[float | None]) -> float | None:
    """The least of the folds' costs, since other work on the machine only adds to them."""
    known = [value for value in values if value is not None]
    return round(min(known), 3) if known else None


def _largest(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), DIGITS)
