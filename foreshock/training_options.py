"""Options of the command `train`, below headings in its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from foreshock.sources import data_option
from model.architectures import ARCHITECTURES, Family
from model.training.input_rules import Alignment, Missing

Device: TypeAlias = Literal["auto", "cpu", "cuda"]


def _network(text: str, *names: str, **options: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Network", **options)


def _learning(text: str, *names: str, **options: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Learning", **options)


def _inputs(text: str, *names: str, **options: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Inputs and augmentation", **options)


SeedOption = Annotated[int, data_option("Seed of the simulation and of the training.")]
MaxUsersOption = Annotated[int | None, data_option("Read only this many users, from the first.", min=1)]
ScratchOption = Annotated[
    Path | None,
    data_option("Keep the columns of the events in files of this folder while it runs, not in memory."),
]

ArchitectureOption = Annotated[
    Family, _network(f"Family of the network, see docs/model.md: {', '.join(ARCHITECTURES)}.", metavar="FAMILY")
]
StartOption = Annotated[Path | None, _network("Train this bundle further instead of a new model.", "--from")]
DropoutOption = Annotated[
    float | None, _network("Dropout of the fusion.", min=0, max=0.9, show_default="the architecture's")
]

FeedbackOption = Annotated[
    Path | None, _learning("Weigh examples by this file of `feedback export`, if that wins on later months.")
]

EpochsOption = Annotated[int, _learning("Most epochs; early stopping may end sooner.", min=1)]
WeightDecayOption = Annotated[float, _learning("L2 penalty; see docs/model.md before changing it.", min=0)]
LearningRateOption = Annotated[
    float | None,
    _learning("Learning rate of Adam.", min=1e-6, max=1, show_default="0.001; 0.0003 with --from"),
]
BatchUsersOption = Annotated[
    int | None, _learning("Users in each step.", min=1, show_default="8 to 64, by the size of the data")
]
ThreadsOption = Annotated[int, _learning("CPU threads of PyTorch.", min=1)]
DeviceOption = Annotated[Device, _learning("Where to compute; auto takes a GPU if there is one.")]
RestartOption = Annotated[bool, _learning("Start again even if there is a checkpoint.", "--restart")]
TensorboardOption = Annotated[Path | None, _learning("Folder for TensorBoard logs.")]

ProtectedInputOption = Annotated[
    list[str] | None, _inputs("Also take this protected profile field (age_band, sex) as an input.")
]
TimeZoneOption = Annotated[
    str | None,
    _inputs(
        "Time zone of the lender's days, by its IANA name.",
        "--lender-time-zone",
        metavar="NAME",
        show_default="the setting's; the bundle's with --from",
    ),
]
WinsorTailOption = Annotated[float, _inputs("Share of the values clipped at either end.", min=0, max=0.4)]
LeaveOutOption = Annotated[
    list[str] | None,
    _inputs("Do not take this profile field, for instance a proxy of a protected one; may be given several times."),
]
MissingOption = Annotated[Missing, _inputs("How a missing value is shown to the model.")]
AlignmentOption = Annotated[Alignment, _inputs("Whether the model sees when events happened, or only their order.")]
JitterOption = Annotated[float, _inputs("Noise on the logarithm of amounts, in training only.", min=0)]
TimeWarpOption = Annotated[float, _inputs("Noise on the pace of histories, in training only.", min=0)]
UnseenRateOption = Annotated[float, _inputs("Share of the categories shown as unseen in training.", min=0, max=0.9)]
BlankRateOption = Annotated[float, _inputs("Share of the users' kinds of event left out in training.", min=0, max=0.9)]
