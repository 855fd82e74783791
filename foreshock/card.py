"""Commands that describe a bundle: `card` writes its model card, `reference` what drift is measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreshock.options import AsJson, takes_settings
from foreshock.sources import MonthsOption, PathOption, UsersOption, data_option, open_source
from foreshock.terminal import fail, tell
from model.bundle import Bundle, BundleError
from model.datasets.dataset import Dataset, DatasetError, Source
from stream.settings import Settings


@takes_settings()
def card(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    out: Annotated[Path | None, typer.Option(help="File for the card.", show_default="MODEL_CARD.md there")] = None,
    source: Annotated[
        Source | None,
        data_option(
            "Evaluate by segment on this source; without it the card has no evaluation.",
            metavar="SOURCE",
            show_default=False,
        ),
    ] = None,
    path: PathOption = None,
    users: UsersOption = 1_000,
    months: MonthsOption = 24,
    seed: Annotated[int, data_option("Seed of the simulation; give another than in training.")] = 1_001,
    as_json: AsJson = False,
    *,
    settings: Settings,
) -> None:
    """Write the model card of a bundle.

    The card holds training data, intended use, metrics by segment, calibration, fairness gaps, thresholds and limits.
    Needs a bundle; with `--source` it is evaluated by segment, a real source on its held-out clients.

        foreshock card my-bundle --source simulator
    """
    from model.evaluation.card import card_figures, write_card
    from model.evaluation.evaluate import progress_bars
    from model.evaluation.scored_source import score_source

    try:
        loaded = Bundle.load(bundle, settings.bundle_public_key)
        figures = None
        if source is not None:
            dataset = open_source(source, path, users, months, seed)
            held_out = source != "simulator"
            with progress_bars(True) as bars:
                scored = score_source(loaded, dataset, bars, held_out_only=held_out)
                bars.add_task("drawing users", total=None)
                whose = "held-out clients" if held_out else f"simulated borrowers of seed {seed}"
                figures = card_figures(scored, f"{source}: {scored.sequences.users:,} {whose}")
        written = write_card(loaded, figures, out)
    except (BundleError, DatasetError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error}; name a file that can be written with --out")
    facts = {"model": loaded.fingerprint_hex, "file": str(written), "evaluated": figures is not None}
    tell(as_json, facts, f"wrote {written}")


@takes_settings("bundle")
def reference(
    *,
    settings: Settings,
    source: Annotated[Source, typer.Option(help="What the bundle was trained on.")] = "simulator",
    path: PathOption = None,
    users: UsersOption = 4_000,
    months: MonthsOption = 24,
    seed: Annotated[int, data_option("Seed of the simulation that the bundle was trained on.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write the reference that drift is measured against.

    The file `reference.json` in a bundle holds what the model's inputs and scores look like where it was trained.
    `foreshock drift` compares recent data with it. `foreshock train` writes it; this command adds it to a bundle that
    has none, from the validation part of the source. The bundle's fingerprint does not change.
    """
    from model.evaluation.drift_reference import take_drift_reference, write_drift_reference
    from model.evaluation.evaluate import progress_bars
    from model.evaluation.scored_source import score_source
    from model.histories.splits import split

    try:
        loaded = Bundle.load(settings.bundle, settings.bundle_public_key)
        dataset: Dataset = open_source(source, path, users, months, seed)
        with progress_bars(True) as bars:
            scored = score_source(loaded, dataset, bars)
        part = split(scored.sequences, dataset, scored.truth).validation
        taken = take_drift_reference(scored, part, f"the validation part of {source}")
        written = write_drift_reference(taken, loaded.path)
    except (BundleError, DatasetError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error}; copy the bundle to a folder that can be written, and name it with --bundle")
    facts = {
        "model": loaded.fingerprint_hex, "file": str(written), "users": taken.users,
        "variables": len(taken.distributions),
    }  # fmt: skip
    tell(as_json, facts, f"wrote {written}: {taken.users:,} users, {len(taken.distributions)} variables")
