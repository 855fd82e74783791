"""Simulator: a portfolio of borrowers whose repayments, spending and activity follow from a latent process.

`life` is the latent process, `accounts` what becomes of each contract, `repayments` and `behaviour` generate the
events, `hazard` the true probabilities of default. Events are generated week by week and block by block: memory does
not grow with the months, and a borrower's events do not depend on the number of others.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.types import KINDS, Event, KeyedEvent
from model.datasets.dataset import DatasetError, Outcome, in_held_out_share
from model.datasets.simulator import economy, hazard, life
from model.datasets.simulator.arrivals import LATE_SHARE, TWICE_SHARE, delivered
from model.datasets.simulator.behaviour import Surface, draft_behaviour
from model.datasets.simulator.calendar import Calendar
from model.datasets.simulator.columns import Flags, Floats, Ints
from model.datasets.simulator.drafts import DAY_S, Draft
from model.datasets.simulator.portfolio import Traits, draw_traits
from model.datasets.simulator.repayments import draft_repayments
from model.datasets.simulator.state import NEVER, Draws, State, Week, fresh_state, replaced

SIMULATOR_OPTIONS = ("users", "months", "seed", "start")
BLOCK_USERS = 512
BURN_IN_WEEKS = 30
"""Weeks simulated before the period, so that at its start some borrowers are already in decline."""

DAY_MS = 86_400_000
_EPOCH = dt.date(1970, 1, 1)
_TRAITS, _LIFE, _SURFACE, _ECONOMY, _FUTURES = range(5)
_HAZARD_CHUNK = 128
"""Borrowers whose futures are simulated at once, in 60 MB."""


class _Events(NamedTuple):
    """Events with their time and their place among equals: four times the user's number, plus the kind's position."""

    time_s: Ints
    order: Ints
    events: list[Event]

    def where(self, kept: Flags) -> _Events:
        chosen = np.flatnonzero(kept)
        return _Events(self.time_s[chosen], self.order[chosen], [self.events[row] for row in chosen.tolist()])


class Simulator:
    """A `Dataset` of simulated borrowers. Equal options give equal events, whatever the order of the calls."""

    name = "simulator"
    headline_horizon_days = 90

    def __init__(
        self, users: int = 2_000, months: int = 12, seed: int = 7, start: dt.date = dt.date(2023, 1, 1)
    ) -> None:
        for option, value, least, most in (
            ("users", users, 1, 10_000_000),
            ("months", months, 1, 600),
            ("seed", seed, 0, 2**63 - 1),
        ):
            if not least <= value <= most:
                raise DatasetError(f"simulator: {option} is {value}; give a number from {least} to {most}")
        self.users, self.months, self.seed, self.start = users, months, seed, start
        self.first_day = (start - _EPOCH).days
        month = np.datetime64(start, "M") + months
        self._end_day = int(month.astype("datetime64[D]").astype(np.int64)) + start.day - 1
        self._weeks = -(-(self._end_day - self.first_day) // 7)
        self._blocks = -(-users // BLOCK_USERS)
        self._strain = economy.strain_path(self._generator(0, _ECONOMY), BURN_IN_WEEKS + self._weeks)
        self._walks: dict[int, _Walk] = {}

    def events(self) -> Iterator[Event]:
        """All events in order of event time, then of user; each call starts anew."""
        for week in self._weekly():
            yield from week.events

    def keyed_events(self) -> Iterator[KeyedEvent]:
        """The same events, encoded as `encode_event` does, with their kind, key and event time (ms): for publishing."""
        keys = [user_id.encode() for user_id in self.user_ids()]
        encode = msgspec.json.Encoder().encode  # what `encode_event` calls, without the call in between
        for week in self._weekly():
            yield from zip(
                map(KINDS.__getitem__, (week.order & 3).tolist()),
                map(keys.__getitem__, (week.order >> 2).tolist()),
                map(encode, week.events),
                (week.time_s * 1000).tolist(),
                strict=True,
            )

    def arrivals(self, late_share: float = LATE_SHARE, twice_share: float = TWICE_SHARE) -> Iterator[KeyedEvent]:
        """The events as a topic may get them: some late and so out of order, some twice; see `delivered`."""
        return delivered(self.keyed_events(), self.seed, late_share, twice_share)

    def outcomes(self) -> dict[str, Outcome]:
        """The truth: the first day in the period on which any contract is 60 days past due, and the latent story."""
        outcomes = {}
        for block in range(self._blocks):
            traits, state = self.traits_of(block), None
            for _, week in self.lives_of(block):
                state = week.state
            assert state is not None
            stories = life.scenarios(traits, state)
            for row, user_id in enumerate(self._user_ids(block)):
                defaulted_day, ended = int(state.defaulted_day[row]), int(state.ended_day[row])
                outcomes[user_id] = Outcome(
                    user_id=user_id,
                    default_date_ms=defaulted_day * DAY_MS
                    if defaulted_day != NEVER and defaulted_day < self._end_day
                    else None,
                    observation_end_ms=(min(ended, self._end_day) if ended != NEVER else self._end_day) * DAY_MS,
                    scenario=stories[row],
                )
        return outcomes

    def held_out(self, user_id: str) -> bool:
        return in_held_out_share(user_id)

    def true_hazard(self, user_id: str, at_ms: int, horizon_days: int = 90) -> float:
        """Probability of default within `horizon_days` of the day of `at_ms`, given no default before that day.

        A share of simulated futures of the same process from the latent state and from what was settled by the end of
        that day, so it has sampling noise (see `hazard.FUTURES`). NaN when the borrower had not joined, had left or had
        defaulted by then. Raises `DatasetError` for a user or time outside the portfolio.
        """
        return float(self.true_hazards([user_id], np.array([at_ms], dtype=np.int64), horizon_days)[0])

    def true_hazards(
        self,
        user_ids: Sequence[str],
        times_ms: NDArray[np.int64],
        horizon_days: int = 90,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.float64]:
        """`true_hazard` of many users at many times (both `[n]`), float64 `[n]`: the same values, much faster.

        Takes about 2 ms for each user and day among them; `progress` is called with the share done, up to 1.
        """
        numbers = np.array([self._number(user_id) for user_id in user_ids], dtype=np.int64)
        days = np.asarray(times_ms, dtype=np.int64) // DAY_MS - self.first_day
        outside = np.flatnonzero((days < 0) | (days >= 7 * self._weeks))
        if len(outside):
            raise DatasetError(
                f"simulator: {times_ms[outside[0]]} ms is outside the simulated {self.months} months from {self.start}"
            )
        asked, place = np.unique(
            np.stack((numbers // BLOCK_USERS, days, numbers % BLOCK_USERS)), axis=1, return_inverse=True
        )
        hazards = np.full(asked.shape[1], np.nan)
        of_week = asked[0] * self._weeks + asked[1] // 7
        bounds = np.flatnonzero(np.diff(of_week, prepend=-1, append=-1) != 0)
        for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            block, number = divmod(int(of_week[first]), self._weeks)
            for chunk in range(first, last, _HAZARD_CHUNK):
                rows = slice(chunk, min(chunk + _HAZARD_CHUNK, last))
                hazards[rows] = self._hazards(block, number, asked[1, rows], asked[2, rows], horizon_days)
            if progress is not None:
                progress(last / len(hazards))
        return hazards[place.reshape(-1)]

    def _hazards(self, block: int, number: int, days: Ints, rows: Ints, horizon_days: int) -> Floats:
        """Hazards of some rows of a block on some days, counted from the period's first, of one week."""
        state, week = self._walk(block).at(number)
        hazards = np.full(len(rows), np.nan)
        ask = np.flatnonzero(state.active[rows] & (state.defaulted_day[rows] == NEVER))
        rows, days = rows[ask], days[ask]
        if len(rows):
            first = block * BLOCK_USERS
            seeds = [
                (self.seed, first + row, day, _FUTURES) for row, day in zip(rows.tolist(), days.tolist(), strict=True)
            ]
            hazards[ask] = hazard.defaulted_shares(
                self.traits_of(block).take(rows),
                state.take(rows),
                week.take(rows),
                float(self.strain_in(number)[0]),
                days % 7,
                horizon_days,
                hazard.Chances(seeds),
            )
        return hazards

    def _walk(self, block: int) -> _Walk:
        walk = self._walks.get(block)
        if walk is None:
            walk = self._walks[block] = _Walk(partial(self.lives_of, block))
        return walk

    def user_ids(self) -> list[str]:
        """Every borrower's id, in order."""
        return [user_id for block in range(self._blocks) for user_id in self._user_ids(block)]

    def _number(self, user_id: str) -> int:
        number = int(user_id[1:]) if user_id[:1] == "u" and user_id[1:].isdigit() else -1
        if not 0 <= number < self.users or user_id != _user_id(number):
            raise DatasetError(f"simulator: no user {user_id!r}; ids run to {_user_id(self.users - 1)}")
        return number

    def _user_ids(self, block: int) -> list[str]:
        first = block * BLOCK_USERS
        return [_user_id(number) for number in range(first, min(first + BLOCK_USERS, self.users))]

    def _generator(self, block: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence((self.seed, block, stream))))

    def traits_of(self, block: int) -> Traits:
        """Traits of a whole block, also of the last one: a borrower does not depend on the number of others."""
        return draw_traits(self._generator(block, _TRAITS), BLOCK_USERS)

    def lives_of(self, block: int) -> Iterator[tuple[State, Week]]:
        """Each week of the period: the state before it and the week. The truth, for reports and tests only."""
        traits = self.traits_of(block)
        rng = self._generator(block, _LIFE)
        fresh = fresh_state(traits)
        state = fresh
        for number in range(-BURN_IN_WEEKS, 0):
            state = life.step(
                traits, state, Draws.of(rng, BLOCK_USERS), self.calendar(number), self.strain_in(number)
            ).state
        lost = (state.defaulted_day != NEVER) | (state.ended_day != NEVER)
        join_week = np.floor(traits.join_share * self._weeks).astype(np.int64)
        state = replaced(state, fresh, lost | (traits.join_share > 0), traits.join_share == 0)
        for number in range(self._weeks):
            if number:
                state = replaced(state, fresh, join_week == number, state.active | (join_week == number))
            else:
                state = replaced(state, fresh, (join_week == 0) & ~state.active, join_week == 0)
            week = life.step(traits, state, Draws.of(rng, BLOCK_USERS), self.calendar(number), self.strain_in(number))
            yield state, week
            state = week.state

    def drafts_of(self, block: int) -> Iterator[tuple[State, Week, Surface, list[Draft]]]:
        """Each week as `lives_of` gives it, what carries over of the behaviour after it (changed in place by the next),
        and the week's events of every kind as they were drafted, before any is told late."""
        traits = self.traits_of(block)
        surface, rng = Surface.of(traits), self._generator(block, _SURFACE)
        for before, week in self.lives_of(block):
            owed = traits.credit_limit * np.maximum(surface.utilisation, 0.0)
            drafts = [draft_repayments(traits, week, owed, rng), *draft_behaviour(traits, week, surface, rng)]
            yield before, week, surface, drafts

    def strain_by_week(self) -> Floats:
        """The economy's strain in each week of the period, `[weeks]`."""
        return self._strain[BURN_IN_WEEKS:]

    def strain_in(self, number: int) -> Floats:
        """The economy's strain in a week, counted from the period's first, `[1]`."""
        return self._strain[BURN_IN_WEEKS + number : BURN_IN_WEEKS + number + 1]

    def calendar(self, number: int) -> Calendar:
        """The calendar of a week, counted from the period's first; those before it are negative."""
        return Calendar.of_week(self.first_day + 7 * number)

    def _weekly(self) -> Iterator[_Events]:
        """Each week's events of all users, in order of time, then of user and kind."""
        blocks = [self._block_weeks(block) for block in range(self._blocks)]
        for _ in range(self._weeks):
            parts = [next(block) for block in blocks]
            time_s = np.concatenate([part.time_s for part in parts])
            order = np.concatenate([part.order for part in parts])
            rank = np.lexsort((order, time_s))
            events = list(chain.from_iterable(part.events for part in parts))
            yield _Events(time_s[rank], order[rank], list(map(events.__getitem__, rank.tolist())))

    def _block_weeks(self, block: int) -> Iterator[_Events]:
        """Each week's events of a block, in no order; what is told after its week comes with the week of telling."""
        user_ids = self._user_ids(block)
        end_s = self._end_day * DAY_S
        told_later: list[_Events] = []
        for number, (_, _, _, drafts) in enumerate(self.drafts_of(block)):
            kept = [draft.where((draft.user < len(user_ids)) & (draft.time_s < end_s)) for draft in drafts]
            prefix = f"{self.seed:x}-{block:x}-{number:x}-"
            drafted = _Events(
                np.concatenate([draft.time_s for draft in kept]),
                np.concatenate([((block * BLOCK_USERS + draft.user) << 2) + kind for kind, draft in enumerate(kept)]),
                [event for kind, draft in enumerate(kept) for event in draft.events(user_ids, f"{prefix}{kind}")],
            )
            ends_s = (self.first_day + 7 * number + 7) * DAY_S
            told, told_later = _told([drafted, *told_later], ends_s if number + 1 < self._weeks else end_s)
            yield told


def _told(parts: list[_Events], until_s: int) -> tuple[_Events, list[_Events]]:
    """What of the parts is told before `until_s`, and what later."""
    told = [part.where(part.time_s < until_s) if (part.time_s >= until_s).any() else part for part in parts]
    later = [part.where(part.time_s >= until_s) for part in parts]
    whole = _Events(
        np.concatenate([part.time_s for part in told]),
        np.concatenate([part.order for part in told]),
        list(chain.from_iterable(part.events for part in told)),
    )
    return whole, [part for part in later if part.events]


class _Walk:
    """A block's life, simulated as far as needed, and again from the start for an earlier week."""

    def __init__(self, lives: Callable[[], Iterator[tuple[State, Week]]]) -> None:
        self._lives = lives
        self._restart()

    def _restart(self) -> None:
        self._rest = enumerate(self._lives())
        self._number, self._now = next(self._rest)

    def at(self, number: int) -> tuple[State, Week]:
        """The state before a week, counted from 0, and the week."""
        if number < self._number:
            self._restart()
        while self._number < number:
            self._number, self._now = next(self._rest)
        return self._now


def _user_id(number: int) -> str:
    return f"u{number:07d}"
