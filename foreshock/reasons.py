"""Commands `reasons measure` and `reasons calibrate`: whether the reasons of alerts are true, and learning what they
weigh. Offline: no broker, no database, no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from foreshock.options import AsJson, Report, takes_settings
from foreshock.sources import PathOption, SourceOption, data_option
from foreshock.tables import Column, Table
from foreshock.terminal import console, fail, print_json, tell
from model.bundle import Bundle, BundleError
from model.datasets.dataset import Dataset, DatasetError
from model.datasets.sources import open_dataset
from stream.alerts.policy import PolicyError
from stream.settings import Settings

reasons_app = typer.Typer(help="Measure whether reasons are true, and learn what they weigh.", no_args_is_help=True)

Users = Annotated[int, data_option("Simulated borrowers.", min=10)]
Months = Annotated[int, data_option("Simulated months.", min=2)]
Alerts = Annotated[int, typer.Option(min=10, help="Alerts to draw at random from all that are raised.")]


@takes_settings("bundle")
def measure(
    *,
    settings: Settings,
    alerts: Alerts = 500,
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: Users = 1_500,
    months: Months = 14,
    seed: Annotated[int, data_option("Seed of simulation and draw; give another than in calibration.")] = 2_001,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Measure whether the reasons of alerts are true.

    Takes the named causes of alerts away, one by one, and compares what the score loses with what it loses when other
    causes are taken away. Needs a bundle, no PyTorch and no servers.
    """
    from model.evaluation.evaluate import progress_bars
    from reports.faithfulness import explanation_ms, trials_of
    from reports.faithfulness import measure as figures_of

    try:
        bundle = Bundle.load(settings.bundle, settings.bundle_public_key)
        dataset = _dataset(source, path, users, months, seed)
        with progress_bars(True) as bars:
            trials = trials_of(bundle, settings, dataset.events(), alerts, seed, bars)
        if not trials:
            fail(f"{source} raised no alert under {settings.bundle}: nothing to measure; take more --users or --months")
        figures = figures_of(trials, seed) | {
            "explanation_ms": explanation_ms(bundle, trials, settings.portfolio_rules().calendar)
        }
    except (BundleError, DatasetError, PolicyError) as error:
        fail(str(error))
    content = {"model": bundle.fingerprint_hex, "source": source, "seed": seed, **figures}
    if as_json:
        print_json(content)
    else:
        _show(figures)
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


@takes_settings("bundle")
def calibrate(
    *,
    settings: Settings,
    alerts: Alerts = 1_500,
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: Users = 2_500,
    months: Months = 14,
    seed: Annotated[int, data_option("Seed of simulation and draw.")] = 31,
    as_json: AsJson = False,
) -> None:
    """Learn what each reason weighs, and write it into the bundle.

    Changes the bundle's manifest and its fingerprint. `foreshock train` does this by itself. Needs no PyTorch and no
    servers.

        foreshock reasons calibrate --bundle my-bundle
    """
    from model.evaluation.evaluate import progress_bars
    from reports.faithfulness import calibrate_bundle

    try:
        dataset = _dataset(source, path, users, months, seed)
        with progress_bars(True) as bars:
            learned = calibrate_bundle(settings, dataset, bars, alerts=alerts, seed=seed)
    except (BundleError, DatasetError, PolicyError) as error:
        fail(str(error))
    if not learned:
        fail(f"{source} raised no alert under {settings.bundle}, which stays as it is; take more --users or --months")
    changed = settings.bundle
    bundle = Bundle.load(changed)
    is_unsigned = settings.bundle_public_key is not None
    tell(
        as_json,
        {"alerts": learned, "bundle": str(changed), "model": bundle.fingerprint_hex, "to_be_signed": is_unsigned},
        f"learnt from {learned:,} alerts; {changed} is now bundle {bundle.fingerprint_hex}",
        *([f"its manifest has changed: sign it again (`foreshock bundle sign {changed}`)"] if is_unsigned else []),
    )


def _dataset(source: Any, path: Path | None, users: int, months: int, seed: int) -> Dataset:
    options = {"users": users, "months": months, "seed": seed} if source == "simulator" else {}
    return open_dataset(source, path, **options)


def _show(figures: dict[str, Any]) -> None:
    console.print(
        f"{figures['alerts']:,} alerts of {figures['users']:,} users; the score without the top reason, "
        "over the score without a random one"
    )
    table = Table(
        "alerts",
        Column("a random one is", prose=True),
        "scale",
        *(Column(name, numeric=True) for name in ("top", "random", "ratio")),
        "95 %",
    )
    for subset, title in (("all", "all"), ("nothing_overdue", "nothing overdue")):
        for pool, found in figures[subset].items():
            for scale in ("log_odds", "probability"):
                if scale in found:
                    each = found[scale]
                    table.add_row(
                        f"{title} ({found['alerts']:,})",
                        pool,
                        scale.replace("_", "-"),
                        f"{each['top']:.3f}",
                        f"{each['random']:.3f}",
                        _known(each["ratio"]),
                        f"{_known(each['ratio_low'])} to {_known(each['ratio_high'])}",
                    )
    console.print(table)
    console.print()
    codes = Table(
        "code",
        *(Column(name, numeric=True) for name in ("named", "first", "stated", "true", "not named", "true there")),
    )
    for code, row in figures["codes"].items():
        codes.add_row(code, *("-" if value is None else str(value) for value in row.values()))
    console.print(codes)
    best, stated = figures["best_possible"], figures["estimates"]
    console.print(
        f"most that any code could lower the score: {best['log_odds']} ({best['probability']} in probability)"
    )
    if "correlation" in stated:
        console.print(
            f"contributions stated against true: correlation {stated['correlation']}, "
            f"mean error {stated['mean_absolute_error']} log-odds over {stated['reasons']:,} reasons"
        )
    cost = figures["explanation_ms"]
    console.print(
        f"naming the reasons of an alert takes {cost['median']} ms (median), {cost['p99']} ms (99th percentile)"
    )


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


reasons_app.command("measure")(measure)
reasons_app.command("calibrate")(calibrate)
