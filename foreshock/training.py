"""The `train` command. It imports PyTorch only when it is called."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from events.feedback import Feedback, FeedbackError, feedback_of
from foreshock.evaluation import show_metrics
from foreshock.options import AsJson
from foreshock.sources import MonthsOption, PathOption, SourceOption, UsersOption, open_source
from foreshock.terminal import console, fail, print_json
from foreshock.training_options import (
    AlignmentOption,
    ArchitectureOption,
    BatchUsersOption,
    BlankRateOption,
    DeviceOption,
    DropoutOption,
    EpochsOption,
    FeedbackOption,
    JitterOption,
    LearningRateOption,
    LeaveOutOption,
    MaxUsersOption,
    MissingOption,
    ProtectedInputOption,
    RestartOption,
    ScratchOption,
    SeedOption,
    StartOption,
    TensorboardOption,
    ThreadsOption,
    TimeWarpOption,
    TimeZoneOption,
    UnseenRateOption,
    WeightDecayOption,
    WinsorTailOption,
)
from model.architectures import ARCHITECTURES, DEFAULT
from model.bundle import Bundle, BundleError
from model.datasets.dataset import Dataset, DatasetError
from model.training.curves import CURVES_FILE
from model.training.input_rules import InputRules
from stream.settings import SettingsError, load_settings


def train(
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    source: SourceOption = "simulator",
    path: PathOption = None,
    users: UsersOption = 4_000,
    months: MonthsOption = 24,
    seed: SeedOption = 1,
    architecture: ArchitectureOption = DEFAULT,
    epochs: EpochsOption = 20,
    weight_decay: WeightDecayOption = 0.0,
    threads: ThreadsOption = 1,
    protected_input: ProtectedInputOption = None,
    leave_out: LeaveOutOption = None,
    start: StartOption = None,
    learning_rate: LearningRateOption = None,
    dropout: DropoutOption = None,
    batch_users: BatchUsersOption = None,
    jitter: JitterOption = 0.0,
    time_warp: TimeWarpOption = 0.0,
    unseen_rate: UnseenRateOption = 0.01,
    blank_rate: BlankRateOption = 0.1,
    lender_time_zone: TimeZoneOption = None,
    winsor_tail: WinsorTailOption = 0.0005,
    missing: MissingOption = "flag",
    alignment: AlignmentOption = "time",
    device: DeviceOption = "auto",
    max_users: MaxUsersOption = None,
    scratch: ScratchOption = None,
    feedback: FeedbackOption = None,
    restart: RestartOption = False,
    tensorboard: TensorboardOption = None,
    as_json: AsJson = False,
) -> None:
    """Train a model and write its bundle.

    Needs the `train` extra (PyTorch). After every epoch it writes a checkpoint and the learning curves to
    `OUT.checkpoint`; after an interruption the same command goes on from there.

        foreshock train --out my-bundle --users 4000 --epochs 20
    """
    try:
        from model.training.augmentation import Augmentation
        from model.training.checkpoint import CheckpointError
        from model.training.export import ExportError
        from model.training.preparation import TrainingError
        from model.training.train import train as run_training
    except ImportError as error:
        fail(f"{error}; training needs PyTorch: pip install -c constraints.txt '.[train]'")
    try:
        settings = load_settings(lender_time_zone=lender_time_zone)
    except SettingsError as error:
        fail(str(error), code=2)
    dataset = open_source(source, path, users, months, seed)
    command = shlex.join(["foreshock", *sys.argv[1:]])
    try:
        rules = InputRules(winsor_tail, missing, alignment, tuple(sorted(set(leave_out or ()))))
        metrics = run_training(
            dataset,
            out,
            seed=seed,
            epochs=epochs,
            weight_decay=weight_decay,
            threads=threads,
            command=command,
            architecture=ARCHITECTURES[architecture],
            protected_inputs=protected_input or (),
            start=start,
            start_public_key=settings.bundle_public_key,
            learning_rate=learning_rate,
            dropout=dropout,
            batch_users=batch_users,
            augmentation=Augmentation(jitter, time_warp, unseen_rate, blank_rate),
            lender_time_zone=settings.lender_time_zone if "lender_time_zone" in settings.model_fields_set else None,
            rules=None if rules == InputRules() else rules,
            device=device,
            max_users=max_users,
            scratch=scratch,
            feedback=None if feedback is None else _read(feedback),
            restart=restart,
            tensorboard=tensorboard,
            finish=lambda bundle, bars: _with_effects(bundle, dataset, bars),
        )
    except (BundleError, CheckpointError, DatasetError, TrainingError, ExportError, ValueError) as error:
        fail(str(error))
    if as_json:
        model = Bundle.load(out).fingerprint_hex
        print_json({"model": model, "bundle": str(out), "curves": str(out / CURVES_FILE), "metrics": metrics})
        return
    show_metrics({name: value for name, value in metrics.items() if name not in ("history", "options", "feedback")})
    if "feedback" in metrics:
        console.print(_decision(metrics["feedback"]))
    console.print(f"bundle {Bundle.load(out).fingerprint_hex} is in {out}, its learning curves in {out / CURVES_FILE}")


def _read(path: Path) -> list[Feedback]:
    try:
        return feedback_of(path.read_bytes())
    except OSError as error:
        fail(f"--feedback: {path} cannot be read ({error.strerror})", code=2)
    except FeedbackError as error:
        fail(f"--feedback: {path}: {error}", code=2)


def _decision(found: dict[str, Any]) -> str:
    """Both figures, and which model was kept."""

    def shown(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.4f}"

    gain = ", ".join(shown(found[name]) for name in ("gain_low", "gain_high"))
    kept = "with" if found["used"] else "without"
    return (
        f"feedback: AUC on later months {shown(found['auc_with'])} with, {shown(found['auc_without'])} without, gain "
        f"between {gain} (90 %); the model {kept} feedback is kept"
    )


def _with_effects(bundle: Bundle, dataset: Dataset, bars: Progress) -> Bundle:
    """The bundle with what its reasons weigh."""
    from reports.faithfulness import calibrate_bundle

    # Of our own making, and not signed yet.
    settings = load_settings(bundle=bundle.path).model_copy(update={"bundle_public_key": None})
    calibrate_bundle(settings, dataset, bars)
    return Bundle.load(bundle.path)
