"""Every target takes its good inputs, holds for thousands of others, and fails where something does not hold."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

import stream.kafka.changelog as changelog
from bench.fuzzing.run import made_of
from bench.fuzzing.target import Target
from bench.fuzzing.targets import TARGETS, events
from foreshock.fuzz import TargetName
from stream.outputs import ForeignRecord, OutputDecoder
from stream.scoring.intake import Intake, Taken

SHORT = {"events": 4_000, "products": 2_000, "outputs": 4_000, "published": 2_000, "batches": 1_000,
         "changelog": 3_000, "rows": 3_000, "order-journal": 3_000, "offsets": 2_000, "archive-manifests": 3_000,
         "archive-files": 1_000, "manifests": 1_000, "graphs": 60, "documents": 500,
         "signatures": 1_000, "settings": 60}  # fmt: skip
"""Inputs of each target here; docs/reliability.md says how many there were in long runs."""

GOOD = {"events": "taken", "products": "product", "outputs": "Score", "published": "compared", "batches": "unpacked",
        "changelog": "records", "rows": "rows", "order-journal": "record", "offsets": "leads",
        "archive-manifests": "description", "archive-files": "records", "manifests": "manifest", "graphs": "graph",
        "documents": "reference", "settings": "settings"}  # fmt: skip
"""What becomes of good inputs, by target."""


def outcomes(target: Target, inputs: int, seed: int = 1) -> Counter[str]:
    check, seeds, random = target.prepare(), target.seeds(), Random(seed)
    return Counter(check(made_of(target, seeds, random)).partition(":")[0] for _ in range(inputs))


def test_the_command_names_every_target() -> None:
    assert [name.value for name in TargetName] == ["all", *TARGETS]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_input_is_taken(name: str) -> None:
    first = TARGETS[name].seeds()[0]
    assert TARGETS[name].prepare()(first).partition(":")[0] == GOOD[name]


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_are_as_large_as_an_engine_takes(name: str) -> None:
    assert max(map(len, TARGETS[name].seeds())) <= 2 * TARGETS[name].largest


@pytest.mark.parametrize("name", TARGETS)
def test_thousands_of_inputs_have_documented_outcomes(name: str) -> None:
    found = outcomes(TARGETS[name], SHORT[name])
    assert sum(found.values()) == SHORT[name]
    # Neither all refused at the door, nor all let through.
    assert len(found) > 1 or name == "signatures"


def test_a_refusal_without_a_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "get_args", lambda _: ())
    with pytest.raises(AssertionError, match="no refusal code"):
        outcomes(TARGETS["events"], 200)


def test_an_event_that_is_changed_when_it_is_taken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "encode_event", lambda _: events.EVENTS["activity"])
    with pytest.raises(AssertionError, match="what was taken"):
        outcomes(TARGETS["events"], 500)


def test_take_all_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Intake, "take_all", lambda *_: ([], []))
    with pytest.raises(AssertionError, match="take_all differs"):
        outcomes(TARGETS["events"], 10)


def test_another_exception_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: OutputDecoder[object], value: bytes) -> object:  # noqa: ARG001
        raise KeyError("not documented")

    monkeypatch.setattr(OutputDecoder, "__call__", decode)
    with pytest.raises(KeyError):
        outcomes(TARGETS["outputs"], 10)
    assert issubclass(ForeignRecord, ValueError)
    assert Taken is events.Taken


def test_records_that_the_ordinary_reader_gives_otherwise_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = changelog._runs

    def without_the_first(batch: memoryview, count: int) -> object:
        runs = whole(batch, count)
        return runs and runs[1:]

    monkeypatch.setattr(changelog, "_runs", without_the_first)
    with pytest.raises(AssertionError, match="other records than the ordinary consumer"):
        TARGETS["changelog"].prepare()(TARGETS["changelog"].seeds()[0])
