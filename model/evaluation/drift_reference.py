"""The drift reference of a bundle: binned distributions of its inputs and scores at training time, in `reference.json`.

The file is beside the manifest and does not change the bundle's fingerprint; a bundle loads without it. It names the
fingerprint of its bundle and is refused for any other. One event per user and kind is counted, so that counts are of
independent users. Needs numpy and msgspec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from events.types import KINDS, Kind
from model.bundle import REFERENCE_FILE as REFERENCE_FILE  # for those who import this module
from model.bundle import Bundle, BundleError
from model.bundle_documents import forget_list
from model.evaluation.scored_source import ScoredSource, rows_of_part
from model.histories.labels import Truth
from model.histories.sequences import Sequences
from model.histories.splits import Part

SCORE = "score"
BINS = 10
CALENDAR = frozenset({"day_of_month", "day_of_year"})
"""Inputs that depend on the dates of the window, not on the borrowers."""


class Distribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Users by bin of one variable.

    Numeric: `edges` are the upper bounds (included) of all bins but the last of the known values; `counts` has
    `len(edges) + 2` entries, the last of users without a value. Categorical: `edges` is null, and `counts` are by code:
    missing, unseen, then `categories`.
    """

    edges: list[float] | None
    categories: list[str]
    counts: list[int]

    @property
    def bins(self) -> int:
        """How many counts there are to be."""
        return len(self.categories) + FIRST_CATEGORY_CODE if self.edges is None else len(self.edges) + 2

    def count(self, values: NDArray[np.floating] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Values `[n]` (codes where categorical) counted in these bins, int64 `[bins]`."""
        if self.edges is None:
            return np.bincount(np.minimum(values.astype(np.int64), len(self.counts) - 1), minlength=len(self.counts))
        missing = np.isnan(values)
        place = np.searchsorted(np.array(self.edges), values.astype(np.float64), side="left")
        return np.bincount(np.where(missing, len(self.edges) + 1, place), minlength=len(self.edges) + 2)


class DriftReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Distributions by variable (`score`, `<kind>.<input>`), of `users` between two event times (ms since 1970)."""

    bundle: str
    taken_from: str
    users: int
    from_ms: int
    until_ms: int
    distributions: dict[str, Distribution]


@dataclass(frozen=True)
class Sample:
    """One value per user and variable: float32 or float64 of numeric ones (NaN is missing), int64 codes of others."""

    users: int
    from_ms: int
    until_ms: int
    values: Mapping[str, NDArray[np.floating] | NDArray[np.int64]]


def draw_sample(
    sequences: Sequences,
    rows: NDArray[np.bool_],
    scores: NDArray[np.floating],
    truth: Truth | None = None,
    seed: int = 0,
) -> Sample:
    """One random event per user and kind among merged `rows` (bool `[events]`), and one random score.

    A profile is valid until replaced, so each user's latest at their last event among `rows` is taken. Scores
    (headline, `[events]`) after the default date are left out where `truth` is given. Categories that are no input of
    the model, protected ones for instance, are left out.
    """
    random = np.random.default_rng(seed)
    owner = sequences.user_of_event
    chosen = np.flatnonzero(rows)
    values: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {}
    at_risk = chosen if truth is None else chosen[sequences.times_ms[chosen] < truth.default_date_ms[owner[chosen]]]
    picked = _one_per_user(at_risk[~np.isnan(scores[at_risk])], owner, random)
    values[SCORE] = scores[picked].astype(np.float64)
    for position, kind in enumerate(KINDS):
        if kind == "profiles":
            places = _last_per_user(chosen, owner)
            places = places[sequences.latest[places, position] > 0]
        else:
            places = _one_per_user(chosen[sequences.kinds[chosen] == position], owner, random)
        event = sequences.starts[kind][owner[places]] + sequences.latest[places, position] - 1
        values.update(_inputs(sequences, kind, event))
    times = sequences.times_ms[chosen]
    return Sample(
        users=len(np.unique(owner[chosen])),
        from_ms=int(times.min(initial=np.iinfo(np.int64).max)) if len(times) else 0,
        until_ms=int(times.max(initial=0)),
        values=values,
    )


def drift_reference_of(
    sample: Sample, vocabularies: Mapping[Kind, Mapping[str, Mapping[str, int]]], taken_from: str, bundle: str
) -> DriftReference:
    """The drift reference of a sample: bins by its own quantiles, and its counts in them."""
    distributions = {}
    for name, values in sample.values.items():
        kind, _, column = name.partition(".")
        if values.dtype.kind == "i":
            vocabulary = vocabularies[kind][column]  # type: ignore[index]
            listed = sorted(vocabulary, key=lambda category: vocabulary[category])
            empty = Distribution(edges=None, categories=listed, counts=[0] * (len(listed) + FIRST_CATEGORY_CODE))
        else:
            empty = Distribution(edges=(edges := quantile_edges(values)), categories=[], counts=[0] * (len(edges) + 2))
        distributions[name] = msgspec.structs.replace(empty, counts=empty.count(values).tolist())
    return DriftReference(
        bundle=bundle,
        taken_from=taken_from,
        users=sample.users,
        from_ms=sample.from_ms,
        until_ms=sample.until_ms,
        distributions=distributions,
    )


def quantile_edges(values: NDArray[np.floating] | NDArray[np.int64], bins: int = BINS) -> list[float]:
    """Upper bounds of `bins` groups of about equal size of the known values; fewer where many values are equal."""
    known = values[~np.isnan(values)].astype(np.float64)
    if not len(known):
        return []
    cuts = np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf")
    return [float(edge) for edge in np.unique(cuts)]


def counts_of(sample: Sample, reference: DriftReference) -> dict[str, NDArray[np.int64]]:
    """A sample counted in the bins of a reference, by variable."""
    return {
        name: distribution.count(sample.values[name])
        for name, distribution in reference.distributions.items()
        if name in sample.values
    }


def reference_counts(reference: DriftReference) -> dict[str, NDArray[np.int64]]:
    """The reference's own counts, by variable."""
    return {
        name: np.array(distribution.counts, dtype=np.int64) for name, distribution in reference.distributions.items()
    }


def take_drift_reference(source: ScoredSource, part: Part, taken_from: str) -> DriftReference:
    """The drift reference of a bundle from a part of a scored source. Training takes the validation part: its latest
    data to which the weights were not fitted."""
    sample = draw_sample(source.sequences, rows_of_part(source.sequences, part), source.headline, source.truth)
    return drift_reference_of(sample, source.bundle.vocabularies, taken_from, source.bundle.fingerprint_hex)


def write_drift_reference(reference: DriftReference, folder: Path) -> Path:
    """Write `reference.json` into a bundle's folder; the bundle's fingerprint does not change. A signed list of its
    documents, now wrong, is removed."""
    path = folder / REFERENCE_FILE
    forget_list(folder)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(reference), indent=1) + b"\n")
    return path


def read_drift_reference(bundle: Bundle) -> DriftReference | None:
    """The bundle's reference; None if it has none.

    Raises `BundleError` when the file is damaged, was taken with another bundle, or is not covered by the signature of
    a bundle that had to be signed.
    """
    path = bundle.path / REFERENCE_FILE
    content = bundle.document(REFERENCE_FILE)
    if content is None:
        return None
    reference = decode_drift_reference(path, content)
    if reference.bundle != bundle.fingerprint_hex:
        raise BundleError(
            f"{path} was taken with bundle {reference.bundle}, this is {bundle.fingerprint_hex}; take it again with "
            "`foreshock reference`, or delete it"
        )
    return reference


def decode_drift_reference(path: Path, content: bytes) -> DriftReference:
    """The reference in a file. Raises `BundleError` where it is none, or its counts are not those of its bins."""
    try:
        reference = msgspec.json.decode(content, type=DriftReference)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is no reference ({error}); take it again with `foreshock reference`") from None
    for name, one in reference.distributions.items():
        if len(one.counts) != one.bins or not all(0 <= count < 1 << 53 for count in one.counts):
            raise BundleError(
                f"{path} has {len(one.counts)} counts in {one.bins} bins of {name!r:.100}, or counts that can be none; "
                "take it again with `foreshock reference`"
            )
        if one.edges is not None and any(low >= high for low, high in pairwise(one.edges)):
            raise BundleError(
                f"{path} has bins of {name!r:.100} that do not ascend; take it again with `foreshock reference`"
            )
    return reference


def _inputs(
    sequences: Sequences, kind: Kind, events: NDArray[np.int64]
) -> dict[str, NDArray[np.floating] | NDArray[np.int64]]:
    columns = COLUMNS[kind]
    found: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {
        f"{kind}.{name}": sequences.numeric[kind][events, position]
        for position, name in enumerate(columns.numeric_inputs)
        if name not in CALENDAR
    }
    for position, name in enumerate(columns.categorical):
        if name in sequences.vocabularies[kind]:
            found[f"{kind}.{name}"] = sequences.categorical[kind][events, position]
    return found


def _one_per_user(rows: NDArray[np.int64], owner: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    shuffled = random.permutation(rows)
    _, first = np.unique(owner[shuffled], return_index=True)
    return shuffled[first]


def _last_per_user(rows: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last of `rows` (rising) of each user."""
    is_last: NDArray[np.bool_] = np.append(owner[rows][1:] != owner[rows][:-1], True)[: len(rows)]
    return rows[is_last]
