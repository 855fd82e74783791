"""Whether the reasons of alerts are true: how far the score falls without a named cause, and without another cause.

Runs offline. The figures are exact, because the model scores the changed histories (`model.explanation.rescoring`). The
estimates of `stream.alerts.effects` are fitted to the same trials. Fit and judge on different borrowers: take another
seed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from events.calendar import UTC, Calendar
from events.counterfactuals import COUNTERFACTUALS, without_cause
from events.reasons import CATALOGUE, cause_of
from events.types import KINDS, Event
from model.bundle import Bundle
from model.datasets.dataset import Dataset
from model.explanation.rescoring import (
    History,
    ages_of,
    branches_of,
    changed_histories,
    history_of,
    log_odds,
    readouts_of,
    score_histories,
)
from reports.effect_fit import Example, fit_effects, store_effects
from reports.raised_alerts import RaisedAlert, drawn, raise_alerts, situation_after
from stream.alerts.effects import FEATURES, Fitted
from stream.alerts.reasons import all_findings, reasons_of
from stream.scoring.explanation import Explainer
from stream.settings import Settings
from stream.topics import Topics

ALERTS_AT_ONCE = 200
CALIBRATION_ALERTS = 1_500
CALIBRATION_EVENTS = 400_000
"""At most so many events of a source are read for calibration, which needs some hundred alerts only."""
RESAMPLES = 2_000
WHOLE_BRANCHES = ("repayment_pattern", "spending_pattern", "activity_pattern")
"""Their counterfactual takes away every other cause of their branch as well, so they are no *other* cause than one of
it."""

Pool = Callable[["Trial", str], list[str]]
OnProgress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Trial:
    """One alert: its score, and the score without each cause that its history has, by code."""

    raised: RaisedAlert
    score: float
    without: Mapping[str, float]

    def drop(self, code: str) -> tuple[float, float]:
        """How far the score falls without the cause, in log-odds and in probability; 0 where it was never there."""
        after = self.without.get(code, self.score)
        before_odds, after_odds = log_odds(np.array([self.score, after]))
        return float(before_odds - after_odds), self.score - after

    @property
    def named(self) -> list[str]:
        return [reason.code for reason in self.raised.alert.reasons]


POOLS: dict[str, Pool] = {
    "another cause": lambda trial, top: [
        code for code in trial.without if code not in WHOLE_BRANCHES and cause_of(code) != cause_of(top)
    ],
    "another code": lambda trial, top: [code for code in trial.without if code != top],
    "another reason of the alert": lambda trial, top: [
        code for code in trial.named if code in trial.without and code != top
    ],
}
"""The codes that a random one is drawn from, to compare with the top reason. The second also has codes that name the
same cause in other words."""


def try_counterfactuals(
    bundle: Bundle,
    alerts: Sequence[RaisedAlert],
    on_progress: OnProgress = lambda _alerts: None,
    calendar: Calendar = UTC,
) -> list[Trial]:
    """Score each alert's history again without each cause of the catalogue that it has. `calendar` is the one that the
    events were scored by."""
    trials: list[Trial] = []
    for start in range(0, len(alerts), ALERTS_AT_ONCE):
        chunk = alerts[start : start + ALERTS_AT_ONCE]
        branches = {kind: branches_of(kind, [raised.events for raised in chunk], bundle, calendar) for kind in KINDS}
        wholes: list[History] = [{kind: branches[kind][number] for kind in KINDS} for number in range(len(chunk))]
        histories, tried = list(wholes), [(number, "") for number in range(len(chunk))]
        for kind in KINDS:
            changed: list[tuple[int, str, list[Event]]] = []
            for number, raised in enumerate(chunk):
                for code in COUNTERFACTUALS:
                    if CATALOGUE[code].kind == kind and (without := without_cause(code, raised.events)) is not None:
                        changed.append((number, code, without))
            of = [wholes[number] for number, _, _ in changed]
            histories += changed_histories(of, kind, [without for _, _, without in changed], bundle, calendar)
            tried += [(number, code) for number, code, _ in changed]
        scores = score_histories(bundle, histories)[:, bundle.headline].tolist()
        found: list[dict[str, float]] = [{} for _ in chunk]
        for (number, code), score in zip(tried, scores, strict=True):
            found[number][code] = score
        trials += [Trial(raised, each.pop(""), each) for raised, each in zip(chunk, found, strict=True)]
        on_progress(len(chunk))
    return trials


def trials_of(
    bundle: Bundle, settings: Settings, events: Iterable[Event], most: int, seed: int, bars: Progress
) -> list[Trial]:
    """Trials of at most `most` alerts, drawn at random from all that the events raise."""
    scoring = bars.add_task("raising alerts", total=None)
    alerts = raise_alerts(bundle, settings, events, lambda scored, _: bars.update(scoring, completed=scored))
    bars.update(scoring, total=bars.tasks[scoring].completed)
    chosen = drawn(alerts, most, seed)
    task = bars.add_task("taking causes away", total=len(chosen))
    calendar = settings.portfolio_rules().calendar
    return try_counterfactuals(bundle, chosen, lambda done: bars.advance(task, done), calendar)


def calibrate_bundle(
    settings: Settings, dataset: Dataset, bars: Progress, *, alerts: int = CALIBRATION_ALERTS, seed: int = 31
) -> int:
    """Fit the effects of reasons under `settings.bundle` to clients that are not held out, and store them there.

    Returns the number of alerts; without any, the bundle stays as it is. No label is read.
    """
    bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
    events = (event for event in dataset.events() if not dataset.held_out(event.user_id))
    trials = trials_of(bundle, settings, itertools.islice(events, CALIBRATION_EVENTS), alerts, seed, bars)
    if trials:
        weights = fit_effects(examples_of(bundle, trials, settings.portfolio_rules().calendar))
        fitted = Fitted(features=list(FEATURES), weights=weights, alerts=len(trials), source=dataset.name)
        store_effects(bundle.path, fitted)
    return len(trials)


def examples_of(bundle: Bundle, trials: Sequence[Trial], calendar: Calendar = UTC) -> list[Example]:
    """Examples for `reports.effect_fit.fit_effects`: each fact that applied to an alert, and what its counterfactual
    did."""
    histories = [history_of(trial.raised.events, bundle, calendar) for trial in trials]
    scores, contributions = Explainer(bundle, Topics()).weigh(readouts_of(bundle, histories), ages_of(histories))
    examples = []
    for trial, score, parts in zip(trials, scores.tolist(), contributions.tolist(), strict=True):
        (found,) = all_findings(*situation_after(trial.raised.events, calendar))
        for kind, contribution in zip(KINDS, parts, strict=True):
            examples += [
                Example(finding.code, contribution, finding.strength, score, trial.drop(finding.code)[0])
                for finding in found[kind]
            ]
    return examples


def measure(trials: Sequence[Trial], seed: int) -> dict[str, Any]:
    """Figures of faithfulness, as `--report` writes them.

    `ratio` is the mean drop without the top reason over the mean drop without a random one of the pool (the mean over
    the pool), with the 95 % interval of `RESAMPLES` bootstrap samples of users. `nothing_overdue` is of the alerts
    before any arrears. `best_possible` is the mean drop if the code whose counterfactual lowers the score most always
    stood first. `estimates` compares the stated contributions with the true drops in log-odds.
    """
    early = [trial for trial in trials if "overdue" not in trial.named]
    return {
        "alerts": len(trials),
        "users": len({trial.raised.alert.user_id for trial in trials}),
        "all": _ratios(trials, seed),
        "nothing_overdue": _ratios(early, seed),
        "best_possible": _best_possible(trials),
        "estimates": _estimates(trials),
        "codes": _by_code(trials),
    }


def explanation_ms(bundle: Bundle, trials: Sequence[Trial], calendar: Calendar = UTC) -> dict[str, float]:
    """Milliseconds of processor time that naming the reasons of one alert takes: median and 99th percentile."""
    explainer = Explainer(bundle, Topics())
    histories = [history_of(trial.raised.events, bundle, calendar) for trial in trials]
    readouts, ages = readouts_of(bundle, histories), ages_of(histories)
    situations = [situation_after(trial.raised.events, calendar) for trial in trials]
    taken = []
    for row in range(len(trials)):
        started_s = time.process_time()
        scores, contributions = explainer.weigh(readouts[row : row + 1], ages[row : row + 1])
        reasons_of(contributions, *situations[row], scores, explainer.effects)
        taken.append((time.process_time() - started_s) * 1e3)
    return {"median": round(float(np.median(taken)), 3), "p99": round(float(np.percentile(taken, 99)), 3)}


def _ratios(trials: Sequence[Trial], seed: int) -> dict[str, Any]:
    return {name: _ratio(trials, pool, seed) for name, pool in POOLS.items()}


def _ratio(trials: Sequence[Trial], pool: Pool, seed: int) -> dict[str, Any]:
    users: list[str] = []
    drops: list[tuple[tuple[float, float], NDArray[np.float64]]] = []
    for trial in trials:
        others = pool(trial, trial.named[0])
        if others:
            users.append(trial.raised.alert.user_id)
            drops.append((trial.drop(trial.named[0]), np.mean([trial.drop(code) for code in others], axis=0)))
    if not drops:
        return {"alerts": 0}
    _, owner = np.unique(users, return_inverse=True)
    figures: dict[str, Any] = {"alerts": len(drops)}
    for column, scale in enumerate(("log_odds", "probability")):
        top = np.bincount(owner, weights=np.array([drop[0][column] for drop in drops])).astype(np.float64)
        other = np.bincount(owner, weights=np.array([drop[1][column] for drop in drops])).astype(np.float64)
        low, high = _interval(top, other, seed)
        figures[scale] = {
            "top": round(float(top.sum()) / len(drops), 4),
            "random": round(float(other.sum()) / len(drops), 4),
            "ratio": round(float(top.sum() / other.sum()), 2) if other.sum() > 0 else None,
            "ratio_low": low,
            "ratio_high": high,
        }
    return figures


def _interval(
    top: NDArray[np.float64], other: NDArray[np.float64], seed: int
) -> tuple[float, float] | tuple[None, None]:
    """95 % bootstrap interval of the ratio of sums `[users]`, resampling users; None where samples lose nothing."""
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(top), np.full(len(top), 1 / len(top)), size=RESAMPLES)
    sums = counts @ other
    if (sums <= 0).any():
        return None, None
    low, high = np.percentile(counts @ top / sums, [2.5, 97.5])
    return round(float(low), 2), round(float(high), 2)


def _best_possible(trials: Sequence[Trial]) -> dict[str, float]:
    best = np.array([np.max([trial.drop(code) for code in trial.without] or [(0.0, 0.0)], axis=0) for trial in trials])
    mean = best.mean(axis=0) if len(best) else np.zeros(2)
    return {"log_odds": round(float(mean[0]), 4), "probability": round(float(mean[1]), 4)}


def _estimates(trials: Sequence[Trial]) -> dict[str, Any]:
    pairs = np.array(
        [
            (reason.contribution, trial.drop(reason.code)[0])
            for trial in trials
            for reason in trial.raised.alert.reasons
            if reason.code in trial.without
        ]
    ).reshape(-1, 2)
    if len(pairs) < 2 or not (np.ptp(pairs, axis=0) > 0).all():
        return {"reasons": len(pairs)}
    return {
        "reasons": len(pairs),
        "correlation": round(float(np.corrcoef(pairs.T)[0, 1]), 4),
        "mean_absolute_error": round(float(np.abs(pairs[:, 0] - pairs[:, 1]).mean()), 4),
    }


def _by_code(trials: Sequence[Trial]) -> dict[str, Any]:
    """Per code: how often it is named, and first; mean contribution stated and true where named; mean where it is not
    but could be removed."""
    table: dict[str, Any] = {}
    for code in COUNTERFACTUALS:
        named = [
            (reason.contribution, trial.drop(code)[0])
            for trial in trials
            for reason in trial.raised.alert.reasons
            if reason.code == code and code in trial.without
        ]
        elsewhere = [trial.drop(code)[0] for trial in trials if code in trial.without and code not in trial.named]
        stated, true = np.mean(named, axis=0) if named else (None, None)
        table[code] = {
            "named": len(named),
            "first": sum(trial.named[0] == code for trial in trials),
            "stated": None if stated is None else round(float(stated), 3),
            "true": None if true is None else round(float(true), 3),
            "not_named": len(elsewhere),
            "true_where_not_named": round(float(np.mean(elsewhere)), 3) if elsewhere else None,
        }
    return table
