"""Command `outlook`: how many new cases the next months will bring. Only its back-test can use PyTorch."""

from __future__ import annotations

import datetime as dt
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from events.calendar import DAY_MS
from foreshock.options import AsJson, Report, database_of, takes_settings
from foreshock.sources import MonthsOption, PathOption, UsersOption, data_option, open_source
from foreshock.tables import Column, Table
from foreshock.terminal import console, errors, fail, print_json
from model.bundle import Bundle, BundleError
from model.datasets.dataset import Dataset, DatasetError, Source
from stream.database.errors import DatabaseError
from stream.settings import Settings

if TYPE_CHECKING:
    from reports.outlook import Portfolio

HISTORY_MONTHS = 30


@takes_settings("database_url", "bundle", "stack_dir")
def outlook(
    *,
    settings: Settings,
    source: Annotated[
        Source | None,
        data_option("Score this source instead of reading PostgreSQL.", metavar="SOURCE", show_default="PostgreSQL"),
    ] = None,
    path: PathOption = None,
    users: UsersOption = 2_000,
    months: MonthsOption = 24,
    seed: Annotated[int, data_option("Seed of the simulation.")] = 1_001,
    start: Annotated[
        dt.datetime | None, typer.Option(help="First day of the simulation.", show_default="the simulator's")
    ] = None,
    segment: Annotated[
        str | None, typer.Option(help="Also split by this: a field of profiles, or `level` with PostgreSQL.")
    ] = None,
    stale_days: Annotated[
        float, typer.Option(min=1, help="Users whose latest score is older than this count as gone.")
    ] = 60.0,
    backtest: Annotated[
        bool, typer.Option("--backtest", help="Instead, judge forecasts of past months of a source against what came.")
    ] = False,
    history_users: Annotated[
        int, typer.Option(min=300, help="Simulated borrowers that the encoder–decoder learns from.")
    ] = 8_000,
    history_seed: Annotated[
        int, data_option("Seed of their simulation; give the one that the bundle was trained with.")
    ] = 2_023,
    report: Report = None,
    page: Annotated[
        Path | None, typer.Option(help="Also write the back-test into the marked section of this page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast new serious delinquencies in 30, 60 and 90 days.

    The forecast is the sum of the latest calibrated scores of all users at risk, corrected by past forecasts whose
    outcome is known, with intervals. Needs a bundle and PostgreSQL, or a `--source`. Only the back-test can use
    PyTorch.

        foreshock outlook --source simulator --segment product
    """
    if source is None and (backtest or segment not in (None, "level")):
        fail("PostgreSQL knows no profile: the only --segment is `level`, and --backtest needs a --source")
    try:
        loaded = Bundle.load(settings.bundle, settings.bundle_public_key)
        if source is None:
            found = _of_database(settings, loaded, stale_days, by_level=segment is not None)
        else:
            dataset = open_source(source, path, users, months, seed, None if start is None else start.date())
            if backtest:
                history = dataset
                if source == "simulator":
                    history = open_source(source, None, history_users, HISTORY_MONTHS, history_seed)
                _back_test(loaded, dataset, history, stale_days, report, page, as_json=as_json)
                return
            found = _of_source(loaded, dataset, stale_days, segment)
    except (BundleError, DatabaseError, DatasetError, ValueError) as error:
        fail(str(error))
    if as_json:
        print_json(found)
    else:
        _show(found)
    _write(report, found)


def _of_database(settings: Settings, bundle: Bundle, stale_days: float, *, by_level: bool) -> Portfolio:
    from reports.outlook import outlook_of_database

    return outlook_of_database(database_of(settings), bundle, stale_days, by_level=by_level)


def _of_source(bundle: Bundle, dataset: Dataset, stale_days: float, segment: str | None) -> Portfolio:
    from model.evaluation.evaluate import progress_bars
    from model.evaluation.scored_source import score_source
    from reports.outlook import outlook_of_source

    with progress_bars(True) as bars:
        return outlook_of_source(score_source(bundle, dataset, bars), stale_days, segment)


def _back_test(
    bundle: Bundle,
    dataset: Dataset,
    history: Dataset,
    stale_days: float,
    report: Path | None,
    page: Path | None,
    *,
    as_json: bool,
) -> None:
    result = judge(bundle, dataset, history, stale_days)
    if as_json:
        print_json(result)
    else:
        _show_judged(result)
    _write(report, result)
    if page is not None:
        _write_page(page, msgspec.to_builtins(result))


def judge(bundle: Bundle, dataset: Dataset, history: Dataset, stale_days: float) -> dict[str, Any]:
    """Back-test on a source's held-out users (all of a simulated portfolio); the encoder–decoder learns from `history`:
    another simulated portfolio, or the other clients of a real source before the first origin."""
    from model.evaluation.evaluate import progress_bars
    from model.evaluation.scored_source import score_source
    from model.outlook.backtest import OWN_HISTORY_DAYS, WARM_UP_DAYS, Forecast, methods
    from model.outlook.backtest import backtest as run
    from model.outlook.cases import presence_of

    warm_up_days = OWN_HISTORY_DAYS if history is dataset else WARM_UP_DAYS
    with progress_bars(True) as bars:
        source = score_source(bundle, dataset, bars, held_out_only=history is dataset)
        forecast: Forecast | None = None
        try:
            from model.outlook.forecast import fit_forecast
        except ImportError:
            errors.print("without PyTorch there is no encoder–decoder: pip install -c constraints.txt '.[train]'")
        else:
            bars.add_task("reading the history", total=None)
            if history is dataset:
                learners = [user_id for user_id in dataset.outcomes() if not dataset.held_out(user_id)]
                limit_ms = int(source.sequences.times_ms.min()) + warm_up_days * DAY_MS
                presence = presence_of(dataset, learners).known_at(limit_ms)
            else:
                presence = presence_of(history)
                limit_ms = int(presence.last_ms.max())
            forecast = fit_forecast(presence, limit_ms, bars).expected
        until_ms = max(outcome.observation_end_ms for outcome in dataset.outcomes().values())
        origins = run(source, until_ms, forecast, stale_days=stale_days, warm_up_days=warm_up_days)
    if not origins:
        fail(
            f"{dataset.name} is too short for a back-test: it takes {warm_up_days} days and 90 more; give more --months"
        )
    return {
        "command": shlex.join(["foreshock", *sys.argv[1:]]),
        "bundle": bundle.fingerprint_hex,
        "source": dataset.name,
        "users": source.sequences.users,
        "events": len(source.sequences.kinds),
        "first_origin": origins[0].origin,
        "last_origin": origins[-1].origin,
        "methods": methods(origins),
        "origins": origins,
    }


def _write(report: Path | None, result: Any) -> None:
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def _write_page(path: Path, result: dict[str, Any]) -> None:
    from model.presentation.sections import with_section
    from reports.outlook_page import SECTION, section

    try:
        path.write_text(with_section(path.read_text(), SECTION, section(result), str(path)))
    except OSError as error:
        fail(f"{error}; name a page that exists with --page")
    errors.print(f"wrote {path}")


def _show(found: Portfolio) -> None:
    figure_columns = ("days", "users at risk", "scores", "expected", "80 %", "95 %")
    table = Table("segment", *(Column(name, numeric=True) for name in figure_columns))
    for each in found.outlooks:
        bounds = [f"{low:,.0f}–{high:,.0f}" for low, high in each.intervals.values()]
        table.add_row(
            each.segment,
            str(each.horizon_days),
            f"{each.users:,}",
            f"{each.sum_of_scores:,.1f}",
            f"{each.expected:,.1f}",
            *bounds,
        )
    console.print(f"{found.source} at {found.at:%Y-%m-%d %H:%M} UTC, model {found.fingerprint}")
    console.print(table)
    for days, origins in found.origins.items():
        ratio = found.past_ratio[days]
        if ratio is None or all(each.dispersion is None for each in found.outlooks if each.horizon_days == days):
            console.print(
                f"{days} days: too few past outlooks to say how far off they are; intervals hold chance alone"
            )
        else:
            console.print(f"{days} days: {origins} past outlooks, {ratio:.2f} cases came for each expected")


def _show_judged(result: dict[str, Any]) -> None:
    figure_columns = ("origins", "mean error", "expected/observed", "in 80 %", "in 95 %")
    table = Table(Column("days", numeric=True), "forecast", *(Column(name, numeric=True) for name in figure_columns))
    for each in result["methods"]:
        inside = [f"{100 * share:.0f} %" for share in each.coverage.values()]
        table.add_row(
            str(each.horizon_days), each.method, str(each.origins), f"{each.mean_absolute_error:.2f}",
            "–" if each.ratio is None else f"{each.ratio:.2f}", *inside,
        )  # fmt: skip
    console.print(table)
