"""What was found out about an alert, as a line of a file: how people closed its case, and what promises came to.

Written by `foreshock feedback export` from the tables of the desk, read by `foreshock train --feedback`. No I/O here.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

ClosedAs: TypeAlias = Literal["cured", "paid", "restructured", "false_alarm", "written_off", "handed_over"]


class Feedback(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """On one alert that somebody has worked on. `closed_as` is None while its case is open.

    `opened_at` is the event time of the alert, `known_at` that of the latest that is told here.
    """

    alert_id: str
    user_id: str
    opened_at: Annotated[dt.datetime, Meta(tz=True)]
    known_at: Annotated[dt.datetime, Meta(tz=True)]
    closed_as: ClosedAs | None = None
    promises_kept: Annotated[int, Meta(ge=0)] = 0
    promises_broken: Annotated[int, Meta(ge=0)] = 0

    @property
    def was_false(self) -> bool:
        """Somebody looked, and found no trouble."""
        return self.closed_as == "false_alarm"

    @property
    def was_treated(self) -> bool:
        """What became of the borrower afterwards says what was done about them, as well as how risky they were."""
        return self.promises_kept > 0 or self.closed_as in ("cured", "paid", "restructured")


class FeedbackError(ValueError):
    """A line that is no feedback; the message names it and repeats no value."""


_decode = msgspec.json.Decoder(Feedback).decode


def feedback_of(lines: bytes) -> list[Feedback]:
    """Feedback from lines of JSON; empty lines are left out. Raises `FeedbackError`."""
    found = []
    for number, line in enumerate(lines.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            said = str(error).partition(" - at ")
            where = f" at {said[2]}" if said[1] else ""
            raise FeedbackError(
                f"line {number} is no feedback ({type(error).__name__}{where}); `foreshock feedback export` writes it"
            ) from None
    return found
