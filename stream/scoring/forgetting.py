"""Sets apart, in a batch in order, the events from the requests to forget a user. Pure.

A user is forgotten between two events: what is scored before it counts, and what comes after begins anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from events.types import Forgetting
from stream.scoring.intake import Taken


def is_forgetting(item: Taken) -> bool:
    """Whether an item is no event but asks to forget its user."""
    return isinstance(item.event, Forgetting)


def pieces_between(taken: Sequence[Taken]) -> Iterator[Sequence[Taken]]:
    """The batch in pieces, in order, each of which is all events or all requests to forget."""
    if not any(map(is_forgetting, taken)):
        if taken:
            yield taken
        return
    for _, piece in itertools.groupby(taken, is_forgetting):
        yield list(piece)
