"""When a delivery is tried again, and what an answer means. Pure: random numbers and times are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DELIVERY_FIRST_S, DELIVERY_FACTOR, DELIVERY_LONGEST_S = 5.0, 4.0, 8 * 3600.0
"""Pauses of one delivery: 5 s, 20 s, 80 s and so on, up to eight hours. Ten tries take about a day."""

RECEIVER_FIRST_S, RECEIVER_FACTOR, RECEIVER_LONGEST_S = 1.0, 2.0, 300.0
"""Pauses of a receiver that is not at work, in which it is tried by one delivery at a time."""

STRUGGLING_FAILURES = 3
"""So many failures in a row, of whatever deliveries, make a receiver one that is not at work."""


class Outcome(StrEnum):
    """What came of a try."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """The receiver is at work and does not take this message."""
    UNAVAILABLE = "unavailable"
    """The receiver is not at work, or not to be reached: other messages would fare the same."""
    GONE = "gone"
    """The receiver wants no more messages."""


@dataclass(frozen=True)
class Answer:
    """What came of a try: the HTTP status, or what went wrong before there was one. `wait_s`: how long the receiver
    asks to be left alone."""

    status: int | None
    error: str | None = None
    wait_s: float | None = None

    @property
    def outcome(self) -> Outcome:
        """What it means."""
        if self.status is None or self.status >= 500 or self.status in (408, 425, 429):
            return Outcome.UNAVAILABLE
        if 200 <= self.status < 300:
            return Outcome.DELIVERED
        return Outcome.GONE if self.status == 410 else Outcome.REFUSED

    @property
    def words(self) -> str:
        """For the table and the log; nothing of what the receiver wrote."""
        if self.error is not None:
            return self.error
        redirected = "; redirects are not followed, give the webhook its final address"
        return f"status {self.status}" + (redirected if self.status is not None and 300 <= self.status < 400 else "")


def delivery_pause_s(attempts: int, chance: float, wait_s: float | None = None) -> float:
    """Pause after the try number `attempts` (from 1) has failed; `chance` from 0 to 1 spreads it over a half."""
    return max(_pause_s(attempts, chance, DELIVERY_FIRST_S, DELIVERY_FACTOR, DELIVERY_LONGEST_S), _asked_s(wait_s))


def receiver_pause_s(failures: int, chance: float, wait_s: float | None = None) -> float:
    """Pause of a receiver after so many failures in a row; 0 before they are too many."""
    asked_s = _asked_s(wait_s)
    if failures < STRUGGLING_FAILURES:
        return asked_s
    number = failures - STRUGGLING_FAILURES + 1
    return max(_pause_s(number, chance, RECEIVER_FIRST_S, RECEIVER_FACTOR, RECEIVER_LONGEST_S), asked_s)


def _asked_s(wait_s: float | None) -> float:
    """A receiver may not put us off for longer than we would wait by ourselves."""
    return min(max(wait_s or 0.0, 0.0), RECEIVER_LONGEST_S)


def _pause_s(number: int, chance: float, first_s: float, factor: float, longest_s: float) -> float:
    # The exponent is bounded before the power: after a thousand failures it would not fit into a float.
    whole_s = min(first_s * factor ** min(number - 1, 40), longest_s)
    return whole_s * (0.5 + 0.5 * chance)
