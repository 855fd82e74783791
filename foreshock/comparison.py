"""The `compare` command: one table of served models, challengers and the oracle on the same work."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from foreshock.options import AsJson, Report
from foreshock.sources import PathOption, SourceOption, data_option
from foreshock.tables import Column, Table
from foreshock.terminal import console, errors, fail, print_json, styled
from model.datasets.dataset import DatasetError, Source
from model.datasets.sources import open_dataset

RANKING = (("auc", "AUC", 4), ("pr_auc", "PR-AUC", 4), ("ks", "KS", 3), ("brier", "Brier", 4), ("ece", "ECE", 4))
ALERTS = (
    ("recall_at_budget", "recall", 3),
    ("precision_at_budget", "precision", 3),
    ("median_lead_days", "lead, days", 1),
    ("caught_30_days_ahead", "30 days ahead", 3),
    ("exposure_saved", "saved", 3),
    ("us_per_event", "µs", 2),
    ("state_bytes", "bytes", 0),
)
Figure = tuple[str, str, int]
"""A figure's name in the report, its heading, its digits."""


def compare(
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: Annotated[int, data_option("Simulated borrowers.", min=10)] = 4_000,
    months: Annotated[int, data_option("Simulated months.", min=1)] = 24,
    seed: Annotated[int, data_option("Seed of the simulation, the folds, the training, the draws.", min=0)] = 1,
    candidates: Annotated[
        list[str] | None,
        typer.Option("--entrants", help="A model that takes part; may be given several times.", show_default="all"),
    ] = None,
    folds: Annotated[int, typer.Option(min=1, max=5, help="How many of the five folds to judge.")] = 5,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of the users for the intervals.")] = 200,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs of a served model.")] = 30,
    weight_decay: Annotated[float, typer.Option(min=0, help="L2 penalty of the served models.")] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of PyTorch.")] = 1,
    folder: Annotated[
        Path, typer.Option(help="Folder that keeps bundles and scores; what is in it is not trained again.")
    ] = Path(".foreshock/compare"),
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Train every kind of model on the same data and compare them.

    Needs the `train` extra (PyTorch). It begins by saying how long all trials will take (all of them on five folds:
    hours), and says after each how long the rest will. Interrupt it when you like: the same command goes on where it
    stopped. `--report docs/models/SOURCE.json`, then `foreshock docs write`, brings docs/models.md up to date.

        foreshock compare --entrants lstm-attention --entrants mlp --folds 2
    """
    from model.comparison.roster import RosterError, chosen, roster

    try:
        everyone = roster(source, epochs, weight_decay, threads)
        wanted, with_ensemble = chosen(everyone, candidates or ())
    except ImportError as error:
        fail(f"{error}; comparing needs PyTorch and more: pip install -c constraints.txt '.[train]'")
    except RosterError as error:
        fail(str(error), code=2)
    options = {"users": users, "months": months, "seed": seed} if source == "simulator" else {}
    settings = {"folds": folds, "resamples": bootstrap, "with_ensemble": with_ensemble, "epochs": epochs}
    facts = {
        "command": _command(source, path, options, candidates or [], seed, folds, bootstrap, epochs, weight_decay),
        "simulated": {"users": users, "months": months} if source == "simulator" else None,
        "training": {"epochs": epochs, "weight_decay": weight_decay},
    }
    result = _run(source, path, options, wanted, folder / source, seed, settings, facts)
    if as_json:
        print_json(result)
    for each in () if as_json else result["settings"]:
        console.print(styled(each["name"], "bold"), each["about"], sep=": ")
        console.print(table_of(each, RANKING))
        console.print()
        console.print(table_of(each, ALERTS))
        console.print()
        for target in each["targets"]:
            console.print(target_line(target))
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def _run(
    source: Source,
    path: Path | None,
    options: dict[str, int],
    wanted: Any,
    folder: Path,
    seed: int,
    settings: dict[str, Any],
    facts: dict[str, Any],
) -> dict[str, Any]:
    from bench.environment import commit, cpu
    from model.comparison.leakage import LeakError
    from model.comparison.report import ComparisonError
    from model.comparison.report import compare as run_comparison
    from model.evaluation.evaluate import progress_bars
    from model.training.export import ExportError
    from model.training.preparation import TrainingError

    facts["environment"] = _environment(cpu(), commit(Path(__file__).parent))
    try:
        dataset = open_dataset(source, path, **options)
        with progress_bars(True) as bars:
            return run_comparison(dataset, wanted, folder, bars, seed=seed, facts=facts, **settings)
    except KeyboardInterrupt:
        errors.print(f"interrupted; the same command goes on with what is in {folder}")
        raise typer.Exit(130) from None
    except ImportError as error:
        fail(f"{error}; comparing needs PyTorch and more: pip install -c constraints.txt '.[train]'")
    except LeakError as error:
        fail(f"{error}; no table is made of a comparison that leaks")
    except (DatasetError, ComparisonError, TrainingError, ExportError, RuntimeError, ValueError) as error:
        fail(str(error))


def _command(
    source: Source,
    path: Path | None,
    options: dict[str, int],
    candidates: list[str],
    seed: int,
    folds: int,
    bootstrap: int,
    epochs: int,
    weight_decay: float,
) -> str:
    """The command that makes the report again, without the folders of the machine that it ran on."""
    words = ["foreshock", "compare", "--source", source]
    words += [] if path is None else ["--path", path.name]
    words += [word for name, value in options.items() if name != "seed" for word in (f"--{name}", str(value))]
    words += ["--seed", str(seed), "--folds", str(folds), "--bootstrap", str(bootstrap), "--epochs", str(epochs)]
    words += ["--weight-decay", f"{weight_decay:g}"]
    words += [word for name in candidates for word in ("--entrants", name)]
    return shlex.join(words)


def _environment(cpu: str, commit: str | None) -> dict[str, Any]:
    """Where the figures were taken; costs depend on it, and rankings in their last digits."""
    import datetime as dt
    import os
    import platform
    from importlib import metadata

    packages = {}
    for name in ("numpy", "onnxruntime", "torch", "lightgbm"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "taken_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": packages,
        "commit": commit,
    }


def table_of(setting: dict[str, Any], columns: tuple[Figure, ...]) -> Table:
    """Some figures of a setting's rows for the terminal; beside the AUC stands half the width of its interval."""
    table = Table("", *(Column(title, numeric=True) for _, title, _ in columns))
    for row in setting["rows"]:
        cells = [_cell(row.get(name), digits) for name, _, digits in columns]
        if columns is RANKING and row.get("auc_low") is not None:
            cells[0] += f" ±{(row['auc_high'] - row['auc_low']) / 2:.3f}"
        table.add_row(row["name"], *cells)
    return table


def target_line(target: dict[str, Any]) -> Text:
    """A target and whether it is met, in one line."""
    if target["value"] is None:
        return styled(f"not judged  {target['target']}: needs {', '.join(target['of'])}")
    verdict = styled("met         ", "green") if target["met"] else styled("not met     ", "red")
    sign = "at most" if target["at_most"] else "at least"
    figures = f"{target['value']:.4f}, {sign} {target['needed']} ({', '.join(target['of'])})"
    return Text.assemble(verdict, styled(f"{target['target']}: {figures}"))


def _cell(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
