"""The drift report as one HTML page that needs nothing else: styles and pictures are inside, no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from model.evaluation.drift import Stability
from model.statistics.resampling import Interval
from reports.charts import Estimate, by_label, calibration, shares
from reports.drift import DriftReport

PICTURES = 12
"""Most distributions that the page draws: the score, then those that moved most for their sample size."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; width: 100%; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(420px, 1fr)); gap: 1rem; }
.bad { color: #c2410c; font-weight: 600; }
.note { color: #6b7280; }
"""


def page(report: DriftReport) -> str:
    """The whole page."""
    title = f"Drift of {report.model} {report.fingerprint}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _about(report),
        "<h2>Population stability</h2>",
        _stability_note(report),
        _stability_table(report.stability),
        _pictures(report),
        f"<h2>Calibration of the {report.horizon_days}-day score</h2>",
        _calibration(report),
        "<h2>Ranking by month of the score</h2>",
        _performance(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _about(report: DriftReport) -> str:
    shifted = len(report.shifted)
    verdict = [f"{shifted} of {len(report.stability)} variables shifted" if shifted else "no variable shifted"]
    if report.calibration.p_value is None:
        verdict.append("no matured score to judge calibration by")
    else:
        verdict.append("calibration has moved" if report.miscalibrated else "calibration holds")
    bad = "bad" if shifted or report.miscalibrated else ""
    rate = "" if report.alert_rate is None else (
        f" {report.alert_rate:.1f} alerts per 1,000 users and 30 days came; the MEDIUM threshold was set for "
        f"{report.alert_budget:g}."
    )  # fmt: skip
    return (
        f'<p class="{bad}">{escape("; ".join(verdict))}.</p>'
        f"<p>Scores of {escape(report.source)} from {report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC "
        f"(event time), against {escape(report.reference)}.{rate}</p>"
    )


def _stability_note(report: DriftReport) -> str:
    return (
        '<p class="note">The index (PSI) is of one event per user. Its critical value is what chance stays below in '
        f"{100 * (1 - report.alpha):.0f} % of comparisons of samples of this size; the p-value is adjusted for the "
        "number of variables (Holm). Sizes: moderate from 0.10, large from 0.25.</p>"
    )


def _stability_table(found: Sequence[Stability]) -> str:
    rows = [
        (escape(each.name), f"{each.reference:,}", f"{each.recent:,}", str(each.bins), _figure(each.psi),
         _figure(each.critical), _figure(each.adjusted_p_value, 3), _verdict(each.verdict))
        for each in found
    ]  # fmt: skip
    return _table(("variable", "reference", "recent", "bins", "PSI", "critical", "p", "verdict"), rows)


def _pictures(report: DriftReport) -> str:
    def rank(each: Stability) -> tuple[bool, float]:
        return each.name != "score", -(each.psi or 0.0) / (each.critical or 1.0)

    drawn = sorted(report.stability, key=rank)[:PICTURES]
    pictures = [
        shares(each.name, shape.labels, shape.reference, shape.recent)
        for each in drawn
        if (shape := report.shapes.get(each.name)) is not None
    ]
    return f'<div class="pictures">{"".join(f"<div>{picture}</div>" for picture in pictures)}</div>'


def _calibration(report: DriftReport) -> str:
    found = report.calibration
    if found.p_value is None or found.ratio is None:
        return f"<p>No score is {report.horizon_days} days old yet, so nothing is known of what it foretold.</p>"
    summary = (
        f"<p>{found.observed:,} onsets followed {found.scores:,} scores of {found.users:,} users; "
        f"{found.expected:,.1f} were expected (ratio {found.ratio:.2f}, z {found.z:+.2f}, p {found.p_value:.3f}).</p>"
    )
    rows = [
        (f"{100 * band.low:g}–{100 * band.high:g} %", f"{band.scores:,}", f"{100 * band.expected:.2f} %",
         f"{100 * band.observed:.2f} %", f"{100 * band.observed_low:.2f}–{100 * band.observed_high:.2f} %",
         "yes" if band.holds else '<span class="bad">no</span>')
        for band in found.bands
    ]  # fmt: skip
    points = [
        (band.expected, Estimate("", band.observed, band.observed_low, band.observed_high)) for band in found.bands
    ]
    picture = calibration("Mean score and what came true", points)
    header = ("score", "scores", "mean score", "came true", "interval", "mean within")
    return f'{summary}{_table(header, rows)}<div class="pictures"><div>{picture}</div></div>'


def _performance(report: DriftReport) -> str:
    if not report.performance:
        return "<p>No month has matured.</p>"
    rows = [
        (each.month, f"{each.scores:,}", f"{each.onsets:,}", f"{each.expected:,.1f}", _interval(each.auc),
         _interval(each.pr_auc), _interval(each.ks))
        for each in report.performance
    ]  # fmt: skip
    pictures = [
        by_label(name, [Estimate(each.month, *getattr(each, field)) for each in report.performance])
        for name, field in (("AUC", "auc"), ("PR-AUC", "pr_auc"), ("KS", "ks"))
    ]
    table = _table(("month", "scores", "onsets", "expected", "AUC", "PR-AUC", "KS"), rows)
    return f'{table}<div class="pictures">{"".join(f"<div>{picture}</div>" for picture in pictures)}</div>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _verdict(verdict: str) -> str:
    return verdict if verdict in ("stable", "too few") else f'<span class="bad">{escape(verdict)}</span>'


def _interval(found: Interval) -> str:
    if found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})"
