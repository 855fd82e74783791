"""A bundle with random weights and random histories: enough to prove arithmetic, exported once per session."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from events.columns import COLUMNS
from events.types import KINDS, Activity, Event, Kind, Profile, Repayment, Transaction
from model.architectures import Architecture
from model.bundle import Bundle, Thresholds, Training
from model.datasets.dataset import Dataset, Outcome
from model.evaluation.evaluate import progress_bars
from model.histories.sequences import Vocabularies
from model.networks.risk_model import RiskModel
from model.training.export import Description, export_bundle
from model.training.forward_pass import vocabulary_sizes
from model.training.input_rules import InputRules
from model.training.material import read
from model.training.preparation import labels_of, prepare
from model.training.trainer import Schedule, Trainer
from tests import shared

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)

VOCABULARIES: Vocabularies = {
    "repayments": {"kind": {"due": 2, "missed": 3, "paid": 4}},
    "transactions": {"category": {"cash": 2, "groceries": 3, "salary": 4}, "channel": {"atm": 2, "card": 3}},
    "activity": {"kind": {"inquiry": 2, "session": 3}},
    "profiles": {"employment": {"employed": 2, "self_employed": 3}},
}


def random_numeric(random: np.random.Generator, kind: Kind, rows: int) -> np.ndarray:
    """Plausible raw inputs with a fifth of them missing."""
    names = COLUMNS[kind].numeric_inputs
    values = random.lognormal(4, 1.5, size=(rows, len(names))) * random.choice([-1, 1], size=(rows, len(names)))
    values[random.random(values.shape) < 0.2] = np.nan
    values[:, names.index("day_of_month")] = random.integers(1, 32, rows)
    values[:, names.index("day_of_year")] = random.integers(1, 367, rows)
    return values.astype(np.float32)


def random_model(seed: int = 0, architecture: Architecture | None = None) -> RiskModel:
    """A network, its bounds set from random rows, its weights large enough that scores differ widely."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = RiskModel(architecture or Architecture(), vocabulary_sizes(VOCABULARIES))
    with torch.no_grad():
        for kind in KINDS:
            model.set_bounds(kind, random_numeric(random, kind, 4_000), 0.001, seasonal=True)
        for name, weights in model.named_parameters():
            if any(part in name for part in ("lstm.weight", "gru.weight", "gates.weight", "fusion")):
                weights.mul_(3.0)
        model.fusion.slope.copy_(torch.tensor([0.9, 1.1, 1.0, 0.8]))
        model.fusion.intercept.copy_(torch.tensor([-0.5, -1.0, -1.0, -1.0]))
    return model


def description() -> Description:
    return Description(
        name="random",
        headline_horizon_days=90,
        vocabularies=VOCABULARIES,
        thresholds=Thresholds(medium=0.1, high=0.3, medium_per_1000_users_month=5.0, high_per_1000_users_month=1.5),
        training=Training(
            source="none", command="", seed=0, data_fingerprint="0" * 64, users=0, events=0, epochs=0, seconds=0.0
        ),
    )


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Exported once per session, also where several workers of pytest-xdist share it."""
    common = shared.session_folder(tmp_path_factory)
    folder = common / "random-bundle"
    with shared.one_at_a_time(common, folder.name):
        return Bundle.load(folder) if folder.exists() else export_bundle(random_model(), description(), folder)


@pytest.fixture
def model() -> RiskModel:
    """The network of `random_bundle`, free to be broken."""
    return random_model()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., RiskModel]:
    return random_model


@pytest.fixture(scope="session")
def make_numeric() -> Callable[..., np.ndarray]:
    return random_numeric


@pytest.fixture(scope="session")
def random_description() -> Description:
    return description()


@pytest.fixture(scope="session")
def make_history() -> Callable[..., list[Event]]:
    return random_history


def random_history(user_id: str, events: int, seed: int, kinds: tuple[Kind, ...] = KINDS) -> list[Event]:
    """One user's events in order of arrival; a twentieth arrive late, a sixth of the fields are missing."""
    random = np.random.default_rng(seed)
    moment = START
    history: list[Event] = []
    for number in range(events):
        moment += dt.timedelta(hours=float(random.exponential(60)))
        late = dt.timedelta(days=float(random.random() < 0.05) * 3)
        history.append(_random_event(random, user_id, number, moment - late, str(random.choice(kinds))))
    return history


def _random_event(random: np.random.Generator, user_id: str, number: int, moment: dt.datetime, kind: str) -> Event:
    def amount(scale: float) -> float | None:
        return None if random.random() < 1 / 6 else float(random.lognormal(scale, 1))

    def one_of(*names: str) -> str | None:
        return None if random.random() < 1 / 6 else str(random.choice(names))

    common = {"event_id": f"{user_id}-{number}", "user_id": user_id, "occurred_at": moment}
    if kind == "repayments":
        return Repayment(
            **common,
            kind=str(random.choice(["due", "paid", "missed", "reversed"])),
            amount_due=amount(5),
            amount_paid=amount(5),
            days_past_due=float(random.integers(-5, 90)),
            balance=amount(8),
            instalment_no=number,
            due_date=moment.date() if random.random() < 0.8 else None,
        )
    if kind == "transactions":
        return Transaction(
            **common,
            amount=float(random.normal(0, 300)),
            category=one_of("groceries", "cash", "never listed"),
            channel=one_of("card", "atm"),
            counterparty_type=one_of("shop"),
            balance_after=float(random.normal(0, 2_000)),
            credit_limit=amount(7),
        )
    if kind == "activity":
        return Activity(**common, kind="session", count=amount(1), duration_s=amount(4))
    return Profile(**common, income=amount(8), tenure_months=amount(3), employment=one_of("employed"), sex="female")


class Sessions:
    """Half of the users start inquiries on day `turn` and have a default on day 100; nothing else tells them apart."""

    headline_horizon_days = 90

    def __init__(self, users: int = 60, turn: int = 40, name: str = "sessions") -> None:
        self.name = name
        self._users = users
        self._turn = turn

    def events(self) -> Iterator[Event]:
        for day in range(0, 90, 10):
            for user in range(self._users):
                yield Activity(
                    event_id=f"{user}-{day}",
                    user_id=f"u{user}",
                    occurred_at=START + dt.timedelta(days=day, seconds=user),
                    kind="inquiry" if user % 2 and day >= self._turn else "session",
                    duration_s=float(60 + 7 * (user % 5)),
                )

    def outcomes(self) -> dict[str, Outcome]:
        default_date_ms, until_ms = (int((START + dt.timedelta(days=day)).timestamp() * 1000) for day in (100, 300))
        return {f"u{n}": Outcome(f"u{n}", default_date_ms if n % 2 else None, until_ms) for n in range(self._users)}

    def held_out(self, user_id: str) -> bool:
        return int(user_id[1:]) % 10 < 2


@pytest.fixture(scope="session")
def sessions() -> Callable[..., Dataset]:
    """Makes data sets from which little training learns the truth."""
    return Sessions


@pytest.fixture(scope="session")
def small() -> Architecture:
    """A network that trains in no time."""
    return Architecture(hidden=(6, 6, 6), profile_hidden=6, profile_embedding=4, fusion=8)


@pytest.fixture(scope="session")
def make_trainer(small: Architecture) -> Callable[..., Trainer]:
    """Prepares a data set for the small network and makes its trainer."""

    def make(dataset: Dataset, schedule: Schedule, seed: int = 1, rules: InputRules | None = None) -> Trainer:
        torch.manual_seed(seed)
        with progress_bars(False) as bars:
            material = read(dataset, bars)
        model, sequences = prepare(material.sequences, material.parts, small, (), rules)
        labels = labels_of(sequences, material.outcomes)
        return Trainer(model, sequences, material.parts, labels, schedule, seed, dataset.headline_horizon_days)

    return make
