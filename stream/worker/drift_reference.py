"""The distributions that a bundle's inputs and scores had where it was trained, as a worker compares them with its own.

Scoring does not depend on them: a reference that cannot be used is told of once, and nothing is compared.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import pairwise

import msgspec

from model.bundle import REFERENCE_FILE, Bundle, BundleError

logger = logging.getLogger("foreshock.worker")


class Distribution(msgspec.Struct, frozen=True):
    """Users by bin. Numeric: `edges` are the upper bounds, included, of all bins but the last of the known values, and
    the last count is of users without a value. Categorical: `edges` is null, and counts are by code."""

    edges: list[float] | None
    counts: list[int]


class _Reference(msgspec.Struct):
    bundle: str
    distributions: dict[str, Distribution]


def reference_of(bundle: Bundle) -> Mapping[str, Distribution] | None:
    """By variable (`score`, `<kind>.<input>`); None where the bundle has no reference, or, with a warning, none that
    can be used."""
    path = bundle.path / REFERENCE_FILE
    try:
        content = bundle.document(REFERENCE_FILE)
        if content is None:
            return None
        found = msgspec.json.decode(content, type=_Reference)
        if found.bundle != bundle.fingerprint_hex:
            raise ValueError(f"it is that of model {found.bundle}")
        for name, one in found.distributions.items():
            _require_sound(name, one)
    except (BundleError, ValueError, UnicodeDecodeError, RecursionError) as error:
        logger.warning("%s cannot be used, so drift is not measured: %s", path, error)
        return None
    return found.distributions


def _require_sound(name: str, one: Distribution) -> None:
    """Raises `ValueError` where it is no distribution."""
    edges, counts = one.edges, one.counts
    ascends = edges is None or all(low < high for low, high in pairwise(edges))
    whole = len(counts) >= 2 if edges is None else len(counts) == len(edges) + 2
    if not ascends or not whole or min(counts) < 0 or max(counts) >= 1 << 53 or not any(counts):
        raise ValueError(f"{name!r:.100} has {len(counts)} counts, which are no distribution")
