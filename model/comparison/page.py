"""Reports of comparisons as the generated section of docs/models.md.

Everything in it is computed from the JSON files in docs/models; nothing is typed in by hand. Needs no library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from model.presentation.sections import SectionError, with_section

SECTION = "comparison"
"""Name of the generated section."""
PAGE = "models.md"
REPORTS = "models"
"""Folder of the reports beside the page, one file per comparison, as `foreshock compare --report` wrote it: a source's
own by its name, further ones of it by names of theirs. They stand with the documents because nothing but the page reads
them; the package does not carry them."""

Report: TypeAlias = dict[str, Any]
Row: TypeAlias = Sequence[str]
Column: TypeAlias = tuple[str, str, int]

RANKING: tuple[Column, ...] = (
    ("auc", "AUC", 4),
    ("pr_auc", "PR-AUC", 3),
    ("ks", "KS", 3),
    ("brier", "Brier", 4),
    ("ece", "calibration error", 4),
    ("ece_by_chance", "of it by chance", 4),
)
ALERTS: tuple[Column, ...] = (
    ("recall_at_budget", "recall", 2),
    ("precision_at_budget", "precision", 2),
    ("median_lead_days", "median lead, days", 0),
    ("caught_30_days_ahead", "caught 30 days ahead", 2),
    ("median_days_ahead_of_rule", "median days ahead of 30 days past due", 0),
    ("exposure_saved", "exposure saved", 2),
    ("exposure_saved_per_alert", "of it per alert", 0),
    ("alerts_per_1000_user_months", "alerts", 1),
    ("false_alarms_per_1000_user_months", "false alarms", 1),
)
EXAMPLE = {
    "simulator": "foreshock compare --source simulator --users 8000 --months 30",
    "taiwan": "foreshock compare --source taiwan --path UCI_Credit_Card.csv",
    "auto-loans": "foreshock compare --source auto-loans --path FOLDER",
    "berka": "foreshock compare --source berka --path FOLDER",
}


class PageError(RuntimeError):
    """The page or a report is not there or not whole; the message says what to do."""


def models_page(docs: Path) -> str:
    """docs/models.md with its generated section brought up to date. Raises `PageError` where the page, the marks of the
    section or a report are broken."""
    path = docs / PAGE
    try:
        text = path.read_text()
    except OSError as error:
        raise PageError(f"{path} cannot be read ({error.strerror}); name the docs folder of the source tree") from None
    try:
        return with_section(text, SECTION, section(read_reports(docs / REPORTS)), str(path))
    except SectionError as error:
        raise PageError(str(error)) from None


def read_reports(folder: Path) -> dict[str, Report]:
    """Reports by the names of their files. Raises `PageError` for a file that is no report."""
    reports: dict[str, Report] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            report = json.loads(path.read_bytes())
            missing = sorted({"source", "settings"} - set(report))
        except (ValueError, TypeError) as error:
            raise PageError(f"{path} is no report of `foreshock compare` ({error!r}); make it again") from None
        if missing:
            raise PageError(f"{path} is no report of `foreshock compare` (no {' and '.join(missing)}); make it again")
        reports[path.stem] = report
    return reports


def section(reports: dict[str, Report]) -> str:
    """The generated section: per comparison its tables; for a source without one, how to make it."""
    parts = []
    for name in dict.fromkeys([*EXAMPLE, *reports]):
        parts.append(f"## {name}\n")
        if name in reports:
            parts.extend(_comparison(name, reports[name]))
        else:
            parts.append(
                f"Not compared yet. `{EXAMPLE[name]} --report docs/models/{name}.json` compares it; "
                "`foreshock docs write` puts the figures here.\n"
            )
    return "\n".join(parts)


def _comparison(name: str, report: Report) -> Iterator[str]:
    for setting in report["settings"]:
        yield f"### {name}: {setting['name']}\n"
        yield f"{setting['about']} {_judged(setting)}\n"
        yield _ranking(setting)
        yield f"{_budget_words(report, setting)}\n"
        yield _alerts(setting)
        if setting["targets"]:
            yield _targets(setting)
        best = setting["best_served"]
        if best is not None:
            yield from _details(setting, best)
    yield _where(report) + "\n"


def _judged(setting: dict[str, Any]) -> str:
    problems = setting["problems"]
    users, examples, bad = (
        sum(problem[name] for problem in problems) for name in ("judged_users", "judged_examples", "judged_positives")
    )
    what = (
        "last scores against the label"
        if setting["task"] == "label"
        else (f"scores whose next {setting['headline_days']} days are known")
    )
    return f"Judged: {examples:,} {what}, of {users:,} users; {bad:,} of them bad."


def _ranking(setting: dict[str, Any]) -> str:
    header = ("", "kind", *(title for _, title, _ in RANKING), "µs per event", "bytes of state")
    rows = [
        (
            row["name"],
            row["kind"],
            *(_with_interval(row, name, digits) for name, _, digits in RANKING),
            _plain(row["us_per_event"], 2),
            _plain(row["state_bytes"], 0),
        )
        for row in _ranked(setting["rows"])
    ]
    return _markdown(header, rows)


def _told(columns: tuple[Column, ...], rows: Iterable[dict[str, Any]]) -> tuple[Column, ...]:
    """The columns that a report has: an older one lacks the newest figures."""
    named = [set(row) for row in rows]
    return tuple(column for column in columns if all(column[0] in names for names in named))


def _alerts(setting: dict[str, Any]) -> str:
    columns = _told(ALERTS, setting["rows"])
    header = ("", *(title for _, title, _ in columns), "quartiles of the lead")
    rows = [
        (
            row["name"],
            *(_with_interval(row, name, digits) for name, _, digits in columns),
            _quartiles(row),
        )
        for row in _ranked(setting["rows"])
    ]
    return _markdown(header, rows)


def _quartiles(row: dict[str, Any]) -> str:
    low, high = row["lower_quartile_lead_days"], row["upper_quartile_lead_days"]
    return "–" if low is None or high is None else f"{low:,.0f} and {high:,.0f}"


def _ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Served models, challengers, oracle; the best of each first."""
    kinds = ("served", "challenger", "oracle")
    return sorted(rows, key=lambda row: (kinds.index(row["kind"]), -(row["auc"] or 0.0)))


def _budget_words(report: Report, setting: dict[str, Any]) -> str:
    bounds = [row["recall_bound"] for row in setting["rows"] if row["recall_bound"] is not None]
    bound = f" No ranking could name more than {100 * bounds[0]:.0f} % of the defaults with so few." if bounds else ""
    return (
        f"At {report['budget_per_1000_users_month']:g} alerts per 1,000 users and month, by thresholds from the "
        f"validation part; alerts and false alarms per 1,000 users and month on the test part.{bound}"
    )


def _targets(setting: dict[str, Any]) -> str:
    rows = []
    for target in setting["targets"]:
        verdict = "not judged" if target["met"] is None else "met" if target["met"] else "not met"
        sign = "≤" if target["at_most"] else "≥"
        rows.append(
            (
                target["target"],
                ", ".join(dict.fromkeys(target["of"])),
                f"{sign} {target['needed']:g}",
                _interval(target["value"], target["low"], target["high"], 4),
                verdict,
            )
        )
    return _markdown(("target", "of", "needed", "found", ""), rows)


def _details(setting: dict[str, Any], best: str) -> Iterator[str]:
    """Per horizon, per segment and per budget, of the served model that stands for all."""
    details = setting["details"][best]
    yield f"`{best}`, the served model that validation liked best, in detail:\n"
    columns = RANKING
    header = ("", *(title for _, title, _ in columns), "examples", "of them followed by a default")
    rows: list[Row] = [
        (f"{days} days", *(_with_interval(found, name, digits) for name, _, digits in columns), *_counts(found))
        for days, found in details["horizons"].items()
        if found["examples"]
    ]
    for by, segments in details["segments"].items():
        rows += [
            (f"{by}: {name}", *(_plain(found[key], digits) for key, _, digits in columns), *_counts(found))
            for name, found in segments.items()
        ]
    yield _markdown(header, rows)
    columns = _told(ALERTS, details["budgets"].values())
    header = ("alerts per 1,000 users and month", *(title for _, title, _ in columns), "recall at most")
    rows = [
        (
            budget,
            *(_with_interval(found, name, digits) for name, _, digits in columns),
            _plain(found["recall_bound"], 2),
        )
        for budget, found in details["budgets"].items()
    ]
    yield _markdown(header, rows)


def _counts(found: dict[str, Any]) -> tuple[str, str]:
    return f"{found['examples']:,}", f"{found['positives']:,}"


def _where(report: Report) -> str:
    environment = report.get("environment") or {}
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    return (
        f"`{report.get('command', 'foreshock compare')}`; seed {report['seed']}, {report['resamples']} resamples of "
        f"the users, data `{report['data_fingerprint'][:16]}`. {environment.get('taken_at', '')}, commit "
        f"{environment.get('commit') or 'unknown'}, {environment.get('cpu', 'unknown processor')}, Python "
        f"{environment.get('python', 'unknown')}, {packages}."
    )


def _with_interval(row: dict[str, Any], name: str, digits: int) -> str:
    return _interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)


def _interval(value: float | None, low: float | None, high: float | None, digits: int) -> str:
    if value is None or low is None or high is None:
        return _plain(value, digits)
    return f"{value:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _plain(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _markdown(header: Row, rows: Sequence[Row]) -> str:
    aligned = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, aligned, *rows)) + "\n"
