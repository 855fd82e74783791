"""The back-test of the outlook as Markdown: the generated section of `docs/outlook.md`, made from the JSON of a run."""

from __future__ import annotations

from typing import Any

SECTION = "outlook"
"""Name of the generated section."""


def section(result: dict[str, Any]) -> str:
    """Tables of a back-test's result, as `foreshock outlook --backtest --report` writes it."""
    parts = [
        f"Bundle `{result['bundle']}`, {result['users']:,} users of {result['source']}, {result['events']:,} events, "
        f"monthly origins from {result['first_origin']} to {result['last_origin']}. Made by\n\n"
        f"    {result['command']}\n"
    ]
    for days in sorted({each["horizon_days"] for each in result["methods"]}):
        rows = [each for each in result["methods"] if each["horizon_days"] == days]
        rows.sort(key=lambda each: each["mean_absolute_error"])
        parts.append(
            f"**{days} days**: {rows[0]['origins']} origins with an interval, {rows[0]['observed']:.1f} new cases on "
            "average.\n"
        )
        parts.append(_table(rows))
    parts.append(_course(result))
    return "\n".join(parts)


def _ratio(value: float | None) -> str:
    """Expected over observed cases; a dash where there was no case."""
    return "–" if value is None else f"{value:.2f}"


def _table(rows: list[dict[str, Any]]) -> str:
    levels = sorted(rows[0]["coverage"], key=float)
    header = ["forecast", "mean absolute error", "expected / observed"]
    header += [f"inside the {level} % interval (mean width)" for level in levels]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for each in rows:
        inside = [f"{100 * each['coverage'][level]:.0f} % ({each['width'][level]:.1f})" for level in levels]
        lines.append([each["method"], f"{each['mean_absolute_error']:.2f}", _ratio(each["ratio"]), *inside])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _course(result: dict[str, Any]) -> str:
    """The outlook origin by origin, at the longest horizon."""
    days = max(each["horizon_days"] for each in result["origins"])
    rows = [each for each in result["origins"] if each["horizon_days"] == days and each["method"].startswith("outlook")]
    lines = ["| origin | users at risk | expected | 95 % interval | came |", "| --- | ---: | ---: | ---: | ---: |"]
    for each in rows:
        bounds = (each["intervals"] or {}).get("95")
        interval = "–" if bounds is None else f"{bounds[0]:.0f}–{bounds[1]:.0f}"
        lines.append(
            f"| {each['origin']} | {each['users']:,} | {each['expected']:.1f} | {interval} | {each['observed']} |"
        )
    return f"The outlook, {days} days, origin by origin:\n\n" + "\n".join(lines) + "\n"
