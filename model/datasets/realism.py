"""Realism: figures of the simulator and of real borrowers, as JSON and as the tables of docs/simulator.md.

    python -m model.datasets.realism --taiwan FILE --auto-loans FOLDER --berka FOLDER   # measure, then write both
    python -m model.datasets.realism --from-json                                        # write the tables anew

Figures of the real sources are kept, their data is not. Nothing here reads a model or its results.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from events.calendar import DAY_MS
from events.types import Repayment
from model.datasets.marginals import Figures, marginals
from model.datasets.simulator import Simulator
from model.datasets.simulator.belief import attainable_hazards
from model.datasets.simulator.truths import truths
from model.datasets.sources import open_dataset
from model.presentation.sections import with_section
from model.statistics.metrics import roc_auc

JSON_FILE = Path("docs/simulator.json")
PAGE = Path("docs/simulator.md")
SOURCES = ("simulator", "taiwan", "auto-loans", "berka")
SEEDS = (11, 12, 13, 14, 15)
MONTHS = 24


def measure(paths: Mapping[str, Path], users: int, ceiling_users: int) -> dict[str, Any]:
    """All figures: marginals of the simulator (first seed) and of the real sources at `paths`, truths of every seed,
    and the AUC of the hazard given events (`belief`) over `ceiling_users` borrowers."""
    portfolios = [Simulator(users=users, months=MONTHS, seed=seed) for seed in SEEDS]
    figures: dict[str, Figures] = {"simulator": marginals(portfolios[0])}
    for source in SOURCES[1:]:
        if source in paths:
            figures[source] = marginals(open_dataset(source, paths[source]))  # type: ignore[arg-type]
    return {
        "options": {"users": users, "months": MONTHS, "seeds": list(SEEDS), "ceiling_users": ceiling_users},
        "marginals": figures,
        "truths": [truths(portfolio) for portfolio in portfolios],
        "ceiling": ceiling(Simulator(users=ceiling_users, months=15, seed=SEEDS[0])),
    }


def ceiling(simulator: Simulator, share: float = 0.25, horizon_days: int = 90) -> dict[str, Figures]:
    """AUC and mean of the true hazard and of the hazard given events, over a `share` of the events of the second half
    of the portfolio's time that were observed for the horizon: of all, and of those without arrears on any contract by
    then."""
    outcomes, rng = simulator.outcomes(), np.random.default_rng(0)
    end_ms = max(outcome.observation_end_ms for outcome in outcomes.values())
    begin_ms = simulator.first_day * DAY_MS
    users, times_ms, came, overdue = [], [], [], []
    last: defaultdict[str, dict[str | None, float]] = defaultdict(dict)
    for event in simulator.events():
        outcome, at_ms = outcomes[event.user_id], round(event.occurred_at.timestamp() * 1000)
        if isinstance(event, Repayment):
            if event.kind in {"paid", "closed"}:
                last[event.user_id][event.contract_id] = 0.0
            elif event.days_past_due is not None:
                last[event.user_id][event.contract_id] = event.days_past_due
        default_date_ms = outcome.default_date_ms
        until_ms = outcome.observation_end_ms if default_date_ms is None else end_ms
        if rng.random() >= share or at_ms < (begin_ms + end_ms) / 2 or at_ms + horizon_days * DAY_MS > until_ms:
            continue
        if default_date_ms is None or at_ms < default_date_ms:
            users.append(event.user_id)
            times_ms.append(at_ms)
            came.append(default_date_ms is not None and default_date_ms <= at_ms + horizon_days * DAY_MS)
            overdue.append(max(last[event.user_id].values(), default=0.0))
    happened, current = np.array(came), np.array(overdue) <= 0
    moments = np.array(times_ms, dtype=np.int64)
    true = simulator.true_hazards(users, moments, horizon_days)
    told = attainable_hazards(simulator, users, moments, horizon_days)
    known = ~np.isnan(true)
    rows = {
        "true hazard": true,
        "what events tell of it": told,
        "days past due": np.array(overdue),
    }
    figures = {
        name: {
            "AUC": roc_auc(happened[known], scores[known]) or float("nan"),
            "AUC without arrears": roc_auc(happened[known & current], scores[known & current]) or float("nan"),
        }
        for name, scores in rows.items()
    }
    for name in ("true hazard", "what events tell of it"):
        figures[name]["mean"] = float(rows[name][known].mean())
    figures["what came"] = {"mean": float(happened[known].mean()), "events": float(known.sum())}
    return figures


def tables(figures: Mapping[str, Any]) -> dict[str, str]:
    """Markdown by the name of its place in the page."""
    return {
        "marginals": _marginals_table(figures["marginals"]),
        "truths": _truths_table(figures["truths"]),
        "ceiling": _ceiling_table(figures["ceiling"]),
    }


def written_into(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part as the section of its name; raises `SectionError` where one is missing."""
    for name, part in parts.items():
        page = with_section(page, name, part, str(PAGE))
    return page


def _marginals_table(figures: Mapping[str, Figures]) -> str:
    names = list(dict.fromkeys(name for source in SOURCES for name in figures.get(source, {})))
    lines = ["| | " + " | ".join(SOURCES) + " |", "| --- |" + " ---: |" * len(SOURCES)]
    for name in names:
        cells = [_number(figures.get(source, {}).get(name)) for source in SOURCES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _truths_table(figures: Sequence[Figures]) -> str:
    lines = ["| | mean | least | most |", "| --- | ---: | ---: | ---: |"]
    for name in figures[0]:
        values = [seed[name] for seed in figures if name in seed]
        cells = [_number(value) for value in (float(np.mean(values)), min(values), max(values))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ceiling_table(figures: Mapping[str, Figures]) -> str:
    lines = ["| | AUC | AUC without arrears | mean |", "| --- | ---: | ---: | ---: |"]
    for name, row in figures.items():
        cells = [_number(row.get(column)) for column in ("AUC", "AUC without arrears", "mean")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    """Three decimals below ten, one above; empty where there is none."""
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m model.datasets.realism", description=__doc__.splitlines()[0])
    for source in SOURCES[1:]:
        parser.add_argument(f"--{source}", type=Path, help=f"the file or folder of {source}")
    parser.add_argument("--users", type=int, default=2_048, help="borrowers in each of the simulated portfolios")
    parser.add_argument("--ceiling-users", type=int, default=1_024, help="borrowers whose true hazard is followed")
    parser.add_argument("--from-json", action="store_true", help=f"measure nothing, take the figures of {JSON_FILE}")
    options = parser.parse_args(arguments)
    if not options.from_json:
        paths = {source: getattr(options, source.replace("-", "_")) for source in SOURCES[1:]}
        missing = [source for source, path in paths.items() if path is None]
        if missing:
            parser.error(f"name {', '.join('--' + source for source in missing)}, or give --from-json")
        JSON_FILE.write_text(json.dumps(measure(paths, options.users, options.ceiling_users), indent=1) + "\n")
    page = written_into(PAGE.read_text(encoding="utf-8"), tables(json.loads(JSON_FILE.read_text(encoding="utf-8"))))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
