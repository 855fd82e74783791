"""Simulator: a portfolio of borrowers whose repayments, spending, activity and silence follow from a latent life.

`life` is the truth, `repayments` and `behaviour` are what can be seen of it, `hazard` is what it implies. Events are
generated week by week and block by block: memory does not grow with the months, and a borrower's events do not depend
on how many others there are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.types import KINDS, Event, Kind
from model.datasets import DatasetError, Outcome, in_held_out_share
from model.datasets.simulator import hazard, life
from model.datasets.simulator.behaviour import Surface, draft_behaviour
from model.datasets.simulator.drafts import DAY_S
from model.datasets.simulator.life import NEVER, Calendar, State, Week
from model.datasets.simulator.portfolio import Ints, Traits, draw_traits
from model.datasets.simulator.repayments import draft_repayments

SIMULATOR_OPTIONS = ("users", "months", "seed", "start")
BLOCK_USERS = 512
BURN_IN_WEEKS = 30
"""Weeks lived before the period, so that it does not begin with a portfolio free of decline."""

DAY_MS = 86_400_000
_EPOCH = dt.date(1970, 1, 1)
_TRAITS, _LIFE, _SURFACE = range(3)

Record: TypeAlias = tuple[Kind, bytes, bytes, int]
"""Kind, key, value and event time in milliseconds: what a producer needs."""


class _Events(NamedTuple):
    """Events with their time and their place among equals: four times the user's number, plus the kind's position."""

    time_s: Ints
    order: Ints
    events: list[Event]


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
        self._first_day = (start - _EPOCH).days
        month = np.datetime64(start, "M") + months
        self._end_day = int(month.astype("datetime64[D]").astype(np.int64)) + start.day - 1
        self._weeks = -(-(self._end_day - self._first_day) // 7)
        self._blocks = -(-users // BLOCK_USERS)
        self._futures = lru_cache(maxsize=256)(self._block_futures)

    def events(self) -> Iterator[Event]:
        """All events in order of event time, then of user; each call starts anew."""
        for week in self._weekly():
            yield from week.events

    def records(self) -> Iterator[Record]:
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

    def outcomes(self) -> dict[str, Outcome]:
        """The truth: onset of 60 or more days past due within the period, and the latent story."""
        outcomes = {}
        for block in range(self._blocks):
            traits, state = self._traits(block), None
            for _, week in self._lives(block):
                state = week.state
            assert state is not None
            stories = life.scenarios(traits, state)
            for row, user_id in enumerate(self._user_ids(block)):
                onset, ended = int(state.onset_day[row]), int(state.ended_day[row])
                outcomes[user_id] = Outcome(
                    user_id=user_id,
                    onset_ms=onset * DAY_MS if onset != NEVER and onset < self._end_day else None,
                    observed_until_ms=(min(ended, self._end_day) if ended != NEVER else self._end_day) * DAY_MS,
                    scenario=stories[row],
                )
        return outcomes

    def held_out(self, user_id: str) -> bool:
        return in_held_out_share(user_id)

    def true_hazard(self, user_id: str, at_ms: int, horizon_days: int = 90) -> float:
        """Probability of onset within `horizon_days` of the day of `at_ms`, given no onset before that day.

        A share of simulated futures of the same process from the latent state at the start of that week, so it has
        sampling noise (see `hazard.FUTURES`) and does not know what happened since. NaN when the borrower had not
        joined, had left or had had the onset by then. Raises `DatasetError` for a user or time outside.
        """
        number = self._number(user_id)
        week, day = divmod(at_ms // DAY_MS - self._first_day, 7)
        if not 0 <= week < self._weeks:
            raise DatasetError(f"simulator: {at_ms} ms is outside the simulated {self.months} months from {self.start}")
        weeks = -(-(horizon_days + 6) // 7)
        offsets = self._futures(number // BLOCK_USERS, int(week), weeks)
        return hazard.onset_share(offsets[number % BLOCK_USERS], int(day), horizon_days)

    def true_hazards(
        self,
        user_ids: Sequence[str],
        times_ms: NDArray[np.int64],
        horizon_days: int = 90,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.float64]:
        """`true_hazard` of many users at many times (both `[n]`), float64 `[n]`: the same values, week after week.

        `progress` is called with the share done, up to 1.
        """
        weeks = (np.asarray(times_ms, dtype=np.int64) // DAY_MS - self._first_day) // 7
        blocks = np.array([self._number(user_id) // BLOCK_USERS for user_id in user_ids], dtype=np.int64)
        hazards = np.full(len(weeks), np.nan)
        for done, row in enumerate(np.lexsort((weeks, blocks)).tolist()):
            hazards[row] = self.true_hazard(user_ids[row], int(times_ms[row]), horizon_days)
            if progress is not None:
                progress((done + 1) / len(weeks))
        return hazards

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

    def _traits(self, block: int) -> Traits:
        """Traits of a whole block, also of the last one: a borrower does not depend on the number of others."""
        return draw_traits(self._generator(block, _TRAITS), BLOCK_USERS)

    def _lives(self, block: int) -> Iterator[tuple[State, Week]]:
        """Each week of the period: the state before it and the week."""
        traits = self._traits(block)
        rng = self._generator(block, _LIFE)
        fresh = life.fresh_state(traits)
        state = fresh
        for number in range(-BURN_IN_WEEKS, 0):
            state = life.step(traits, state, rng, self._calendar(number)).state
        lost = (state.onset_day != NEVER) | (state.ended_day != NEVER)
        join_week = np.floor(traits.join_share * self._weeks).astype(np.int64)
        state = life.replaced(state, fresh, lost | (traits.join_share > 0), traits.join_share == 0)
        for number in range(self._weeks):
            if number:
                state = life.replaced(state, fresh, join_week == number, state.active | (join_week == number))
            else:
                state = life.replaced(state, fresh, (join_week == 0) & ~state.active, join_week == 0)
            week = life.step(traits, state, rng, self._calendar(number))
            yield state, week
            state = week.state

    def _calendar(self, number: int) -> Calendar:
        return Calendar.of_week(self._first_day + 7 * number)

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
        """Each week's events of a block, in the order of drafting."""
        traits = self._traits(block)
        user_ids = self._user_ids(block)
        end_s = self._end_day * DAY_S
        surface, rng = Surface.of(traits), self._generator(block, _SURFACE)
        for number, (_, week) in enumerate(self._lives(block)):
            drafts = [draft_repayments(traits, week, rng), *draft_behaviour(traits, week, surface, rng)]
            kept = [draft.where((draft.user < len(user_ids)) & (draft.time_s < end_s)) for draft in drafts]
            prefix = f"{self.seed:x}-{block:x}-{number:x}-"
            yield _Events(
                np.concatenate([draft.time_s for draft in kept]),
                np.concatenate([((block * BLOCK_USERS + draft.user) << 2) + kind for kind, draft in enumerate(kept)]),
                [event for kind, draft in enumerate(kept) for event in draft.events(user_ids, f"{prefix}{kind}")],
            )

    def _block_futures(self, block: int, week: int, weeks: int) -> NDArray[np.int16]:
        """Onsets in futures of a block's borrowers from the start of a week, int16 `[BLOCK_USERS, FUTURES]`."""
        before, _ = next(islice(self._lives(block), week, None))
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, block, week, weeks)))
        return hazard.onset_offsets(self._traits(block), before, self._first_day + 7 * week, weeks, rng)


def _user_id(number: int) -> str:
    return f"u{number:07d}"
