"""What the ablations vary, in tables that each have a page: choices about inputs and augmentation, and about contracts.

Plain definitions; `model.training.ablation` trains them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from events.columns import COLUMNS, CONTRACT_COLUMNS
from events.types import KINDS
from model.histories.sequences import Sequences
from model.networks.pooled import PooledModel
from model.networks.risk_model import RiskModel
from model.training.augmentation import Augmentation
from model.training.input_rules import InputRules
from model.training.preparation import Network

DEFAULT = "as trained by default"


def unchanged(sequences: Sequences) -> Sequences:
    """The histories as they are."""
    return sequences


def numbered(sequences: Sequences) -> Sequences:
    """The histories with the number of each repayment's contract, from 1 on, as `PooledEncoder` takes it.

    It is the contract's place: where one had to make room for another, that one goes on with its state.
    """
    repayments = sequences.numeric["repayments"]
    number = sequences.contract_place[:, None].astype(np.float32) + 1
    return replace(sequences, numeric={**sequences.numeric, "repayments": np.concatenate([repayments, number], axis=1)})


@dataclass(frozen=True)
class Variation:
    """One changed choice: its name in the table, the options of `foreshock train` for it, and their values.

    `network` makes another network than the default one; `histories` gives what it reads.
    """

    name: str
    options: str = ""
    augmentation: Augmentation = field(default_factory=Augmentation)
    rules: InputRules = field(default_factory=InputRules)
    network: Network = RiskModel
    histories: Callable[[Sequences], Sequences] = unchanged


@dataclass(frozen=True)
class Choices:
    """The variations of one table; `title` and `question` head its page."""

    title: str
    question: str
    variations: tuple[Variation, ...]


WITHOUT_CONTRACTS = {
    kind: tuple(name for name in COLUMNS[kind].numeric_inputs if name not in CONTRACT_COLUMNS) for kind in KINDS
}
"""Numeric inputs of each kind without those of contracts."""

CHOICES: dict[str, Choices] = {
    "inputs": Choices(
        "Ablations",
        "What each choice about inputs and augmentation is worth",
        (
            Variation(DEFAULT),
            Variation("jitter", "--jitter 0.1", augmentation=Augmentation(jitter=0.1)),
            Variation("time warp", "--time-warp 0.2", augmentation=Augmentation(time_warp=0.2)),
            Variation("no winsorising", "--winsor-tail 0", rules=InputRules(winsor_tail=0.0)),
            Variation("strong winsorising", "--winsor-tail 0.02", rules=InputRules(winsor_tail=0.02)),
            Variation("missing as zero", "--missing zero", rules=InputRules(missing="zero")),
            Variation("order instead of time", "--alignment order", rules=InputRules(alignment="order")),
        ),
    ),
    "contracts": Choices(
        "Ablations: contracts",
        "What each choice about contracts is worth",
        (
            Variation(DEFAULT),
            Variation("no inputs of contracts", network=partial(RiskModel, numeric_inputs=WITHOUT_CONTRACTS)),
            Variation("a repayment state per contract, pooled", network=PooledModel, histories=numbered),
        ),
    ),
}
"""By the name that `foreshock ablate --choices` takes."""
