"""Command `drift`: does the model still meet the borrowers that it was made for? Needs no PyTorch."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from foreshock.options import AsJson, Report, database_of, takes_settings
from foreshock.sources import MonthsOption, PathOption, UsersOption, data_option, open_source
from foreshock.tables import Column, Table
from foreshock.terminal import console, fail, print_json, styled
from model.bundle import Bundle, BundleError
from model.datasets.dataset import DatasetError, Source
from stream.database.errors import DatabaseError
from stream.settings import Settings

if TYPE_CHECKING:
    from reports.drift import DriftReport


@takes_settings("database_url", "bundle", "stack_dir")
def drift(
    *,
    settings: Settings,
    source: Annotated[
        Source | None,
        data_option("Score this source instead of reading PostgreSQL.", metavar="SOURCE", show_default="PostgreSQL"),
    ] = None,
    path: PathOption = None,
    users: UsersOption = 2_000,
    months: MonthsOption = 18,
    seed: Annotated[int, data_option("Seed of the simulation.")] = 1_001,
    window_days: Annotated[float, typer.Option(min=1, help="Length of the recent window.")] = 30.0,
    reference_days: Annotated[
        float, typer.Option(min=1, help="Length of the window before it, where that is the reference.")
    ] = 90.0,
    matured_months: Annotated[int, typer.Option(min=1, help="Months of matured scores to judge.")] = 6,
    until: Annotated[
        dt.datetime | None, typer.Option(help="End of the window, event time in UTC.", show_default="latest score")
    ] = None,
    from_data: Annotated[
        bool, typer.Option("--from-data", help="Compare with the window before, not with the bundle's reference.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the report as one HTML page.")] = None,
    metrics: Annotated[
        Path | None, typer.Option(help="Write Prometheus metrics to this .prom file, for node-exporter.")
    ] = None,
    report: Report = None,
    as_json: AsJson = False,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if anything has drifted.")] = False,
) -> None:
    """Compare recent inputs and scores with those of the training.

    Judges the stability of inputs and scores, and the calibration and ranking of scores whose outcome is known. Needs
    a bundle and PostgreSQL, which has scores, days past due and alerts; with `--source` every input of the model is
    compared.

        foreshock drift --out drift.html --check
    """
    from reports.drift import Period, drift_of_database, drift_of_source

    period = Period(
        window_days=window_days,
        reference_days=reference_days,
        months=matured_months,
        until=None if until is None else until.replace(tzinfo=dt.UTC),
        from_data=from_data,
    )
    try:
        loaded = Bundle.load(settings.bundle, settings.bundle_public_key)
        if source is None:
            found = drift_of_database(database_of(settings), loaded, period)
        else:
            from model.evaluation.evaluate import progress_bars
            from model.evaluation.scored_source import score_source

            with progress_bars(not as_json) as bars:
                scored = score_source(loaded, open_source(source, path, users, months, seed), bars)
            found = drift_of_source(scored, period)
    except (BundleError, DatabaseError, DatasetError, ValueError) as error:
        fail(str(error))
    if as_json:
        print_json(found)
    else:
        _show(found)
    _write(found, out, metrics, report, quiet=as_json)
    if check and (found.shifted or found.miscalibrated):
        raise typer.Exit(1)


def _write(found: DriftReport, out: Path | None, metrics: Path | None, report: Path | None, *, quiet: bool) -> None:
    from reports.drift_page import page
    from reports.textfile import write_drift_metrics

    try:
        if out is not None:
            out.write_text(page(found), encoding="utf-8")
            if not quiet:
                console.print(f"wrote {out}")
        if metrics is not None:
            write_drift_metrics(found, metrics)
        if report is not None:
            report.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    except OSError as error:
        fail(f"{error}; name a file that can be written")


def _show(found: DriftReport) -> None:
    figure_columns = (Column(name, numeric=True) for name in ("reference", "recent", "PSI", "critical", "p"))
    table = Table("variable", *figure_columns, "verdict")
    for each in found.stability:
        figures = [f"{value:.4f}" if value is not None else "–" for value in (each.psi, each.critical)]
        p_value = "–" if each.adjusted_p_value is None else f"{each.adjusted_p_value:.3f}"
        colour = "green" if each.verdict == "stable" else "dim" if each.verdict == "too few" else "red"
        verdict = styled(each.verdict, colour)
        table.add_row(each.name, f"{each.reference:,}", f"{each.recent:,}", *figures, p_value, verdict)
    console.print(f"{found.since:%Y-%m-%d} to {found.until:%Y-%m-%d} against {found.reference}")
    console.print(table)
    if found.calibration.ratio is not None:
        console.print(
            f"calibration: {found.calibration.observed:,} defaults, {found.calibration.expected:,.1f} expected, "
            f"p = {found.calibration.p_value:.3f}",
        )
    for month in found.performance:
        auc = "–" if month.auc.value is None else f"{month.auc.value:.3f}"
        console.print(f"{month.month}: AUC {auc}, {month.onsets:,} defaults after {month.scores:,} scores")
