"""Encoder–decoder forecast of the number of new cases, for comparison with the sum of scores. Needs PyTorch.

A GRU reads the case rates of the last periods, another gives those of the coming ones (Cho et al. 2014; Sutskever et
al. 2014). It uses counts only and is never served.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn

from events.calendar import DAY_MS
from model.outlook.cases import PERIOD_MS, Presence

PAST_PERIODS = 18
"""Half a year of ten-day periods, from which the next nine are forecast."""
FUTURE_PERIODS = 9
SAMPLES, VALIDATION_SAMPLES = 4_000, 600
LEAST_USERS = 300
HIDDEN = 24
EPOCHS, PATIENCE, BATCH = 60, 6, 64
RATE_USERS = 1_000.0
"""Rates are cases per period and so many users at risk."""
_YEAR_MS = 365.25 * DAY_MS


@dataclass(frozen=True)
class Examples:
    """`past` float32 `[n, PAST_PERIODS, 3]` (rate, season), `season` float32 `[n, FUTURE_PERIODS, 2]`, `at_risk` and
    `cases` float32 `[n]` and `[n, FUTURE_PERIODS]`: of the users at risk at the origin, how many became cases."""

    past: Tensor
    season: Tensor
    at_risk: Tensor
    cases: Tensor


class EncoderDecoder(nn.Module):
    """From `past` and the coming season to the logarithm of case rates, float32 `[n, FUTURE_PERIODS]`."""

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.encoder = nn.GRU(3, hidden, batch_first=True)
        self.decoder = nn.GRUCell(3, hidden)
        self.rate = nn.Linear(hidden, 1)

    def forward(self, past: Tensor, season: Tensor) -> Tensor:
        _, state = self.encoder(past)
        hidden = state[0]
        level = torch.log(past[:, :, 0].mean(1, keepdim=True) + 0.1)
        previous = past[:, -1, :1]
        written = []
        for period in range(season.shape[1]):
            hidden = self.decoder(torch.cat([previous, season[:, period]], 1), hidden)
            # The network learns a correction of the mean of the past.
            log_rate = level + self.rate(hidden)
            previous = torch.exp(log_rate)
            written.append(log_rate)
        return torch.cat(written, 1)


class CaseForecast:
    """A trained encoder–decoder."""

    def __init__(self, network: EncoderDecoder) -> None:
        self._network = network.eval()

    @torch.no_grad()
    def expected(self, presence: Presence, at_ms: int, at_risk: int) -> NDArray[np.float64]:
        """Expected cases in each coming period among `at_risk` users; `presence` must be as known at `at_ms`."""
        past, season = encoded(presence, at_ms)
        rates = torch.exp(self._network(torch.tensor(past)[None], torch.tensor(season)[None]))[0]
        return rates.double().numpy() * at_risk / RATE_USERS


def fit_forecast(history: Presence, until_ms: int, bars: Progress, seed: int = 0) -> CaseForecast:
    """Train on random parts of a portfolio at random origins; the last tenth of the origins is for early stopping.

    Nothing from `until_ms` on is used. Raises `ValueError` for a history too short for an example.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    first = int(history.first_ms.min()) + PAST_PERIODS * PERIOD_MS
    last = until_ms - FUTURE_PERIODS * PERIOD_MS
    if last <= first:
        raise ValueError("the forecast's history is shorter than 270 days; give more months")
    boundary = last - (last - first) // 10
    train = draw_examples(history, (first, boundary), SAMPLES, random)
    validation = draw_examples(history, (boundary, last), VALIDATION_SAMPLES, random)
    network = EncoderDecoder()
    _fit(network, train, validation, random, bars)
    return CaseForecast(network)


def draw_examples(
    history: Presence, origins_ms: tuple[int, int], samples: int, random: np.random.Generator
) -> Examples:
    """Examples of random parts of the users (a portfolio of any size from `LEAST_USERS` on), at random origins."""
    total = len(history.first_ms)
    pasts, seasons, at_risk, cases = [], [], [], []
    for _ in range(samples):
        size = round(math.exp(random.uniform(math.log(min(LEAST_USERS, total)), math.log(total))))
        part = history.of(random.choice(total, size, replace=False))
        at_ms = int(random.integers(*origins_ms))
        present = (part.first_ms < at_ms) & (np.minimum(part.last_ms, part.default_date_ms) >= at_ms)
        past, season = encoded(part, at_ms)
        pasts.append(past)
        seasons.append(season)
        at_risk.append(int(present.sum()))
        cases.append(part.of(np.flatnonzero(present)).cases(at_ms, FUTURE_PERIODS))
    return Examples(
        torch.from_numpy(np.stack(pasts)),
        torch.from_numpy(np.stack(seasons)),
        torch.tensor(at_risk, dtype=torch.float32),
        torch.from_numpy(np.stack(cases)).float(),
    )


def encoded(presence: Presence, at_ms: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rates and season of the past periods, float32 `[PAST_PERIODS, 3]`, and the coming season, `[FUTURE_PERIODS, 2]`.

    Defaults at or after `at_ms` do not count.
    """
    begin = at_ms - PAST_PERIODS * PERIOD_MS
    starts = begin + PERIOD_MS * np.arange(PAST_PERIODS, dtype=np.int64)
    at_risk = np.maximum(presence.at_risk(starts), 1)
    rates = RATE_USERS * presence.cases(begin, PAST_PERIODS) / at_risk
    coming = at_ms + PERIOD_MS * np.arange(FUTURE_PERIODS, dtype=np.int64)
    past = np.concatenate([rates[:, None], _season(starts)], axis=1).astype(np.float32)
    return past, _season(coming).astype(np.float32)


def _season(starts_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    angle = 2 * np.pi * (starts_ms + PERIOD_MS / 2) / _YEAR_MS
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _fit(
    network: EncoderDecoder, train: Examples, validation: Examples, random: np.random.Generator, bars: Progress
) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    best, best_weights, waited = math.inf, network.state_dict(), 0
    task = bars.add_task("encoder–decoder", total=EPOCHS)
    for _ in range(EPOCHS):
        network.train()
        for rows in np.array_split(random.permutation(len(train.at_risk)), -(-len(train.at_risk) // BATCH)):
            optimiser.zero_grad()
            loss = _loss(network, train, torch.from_numpy(rows))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        network.eval()
        with torch.no_grad():
            score = float(_loss(network, validation, torch.arange(len(validation.at_risk))))
        bars.advance(task)
        waited += 1
        if score < best:
            best, waited = score, 0
            best_weights = {name: value.clone() for name, value in network.state_dict().items()}
        if waited >= PATIENCE:
            break
    network.load_state_dict(best_weights)


def _loss(network: EncoderDecoder, examples: Examples, rows: Tensor) -> Tensor:
    """Poisson negative log-likelihood of the cases of each period."""
    log_rate = network(examples.past[rows], examples.season[rows])
    log_cases = log_rate + torch.log(examples.at_risk[rows].clamp(min=1.0) / RATE_USERS)[:, None]
    return torch.nn.functional.poisson_nll_loss(log_cases, examples.cases[rows], log_input=True)
