"""Runs targets on mutated inputs in processes of their own, so that a crash, a hang or a flood of memory is a finding.

The mutator is seeded. An input with a new outcome becomes one that others are made of, which is a poor man's coverage;
`bench.fuzzing.guided` has the real one.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from ctypes import c_int64, c_uint8
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import psutil

from bench.fuzzing.mutation import mutate
from bench.fuzzing.target import Target
from bench.fuzzing.targets import TARGETS

LONGEST_INPUT_S = 10.0
MOST_MEMORY_MIB = 1_024
"""Bounds on what one input may take: seconds of a processor, and memory beyond what the process had after its first
inputs. Not of the clock, since other work may keep the processors."""

WARM_UP = 200
MOST_KEPT = 4_000
FINDINGS_BEFORE_GIVING_UP = 5
_POLL_S = 0.1
_DIGITS = str.maketrans("123456789", "0" * 9)


@dataclass
class Finding:
    """An input that did what none may do."""

    target: str
    kind: str
    message: str
    content: bytes

    def store(self, folder: Path) -> Path:
        """Write the input to a file named after target and content, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.target}-{hashlib.sha256(self.content).hexdigest()[:16]}"
        path.write_bytes(self.content)
        return path


@dataclass
class Outcome:
    """What a run came to. `outcomes` counts inputs by what became of them."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    peak_mib: float = 0.0


class _Shared:
    """What the process that tries inputs shows to the one that watches it: the input under way, and since when."""

    def __init__(self, largest: int) -> None:
        self._content = multiprocessing.RawArray(c_uint8, largest)
        self._view = memoryview(self._content).cast("B")
        self._length = multiprocessing.RawValue(c_int64, 0)
        self._tried = multiprocessing.RawValue(c_int64, 0)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_view"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view = memoryview(self._content).cast("B")

    def begin(self, content: bytes) -> None:
        self._length.value = 0
        self._view[: len(content)] = content
        self._length.value = len(content)
        self._tried.value += 1

    @property
    def tried(self) -> int:
        return int(self._tried.value)

    @property
    def content(self) -> bytes:
        return bytes(self._view[: self._length.value])


def fuzz(
    name: str,
    inputs: int,
    seed: int = 1,
    tell: Callable[[int], None] = lambda _: None,
    longest_s: float = LONGEST_INPUT_S,
) -> Outcome:
    """Try `inputs` mutated inputs of a target, and go on after findings, up to a few of them.

    `tell` is called now and then with the number of inputs tried so far.
    """
    outcome = Outcome(name)
    started = time.monotonic()
    while outcome.inputs < inputs and len(outcome.findings) < FINDINGS_BEFORE_GIVING_UP:
        _one_process(outcome, inputs - outcome.inputs, seed + 1_000_003 * len(outcome.findings), tell, longest_s)
    outcome.seconds = time.monotonic() - started
    return outcome


def _one_process(outcome: Outcome, inputs: int, seed: int, tell: Callable[[int], None], longest_s: float) -> None:
    """Run a process until it is done or has a finding, and add what it did to `outcome`."""
    spawning = multiprocessing.get_context("spawn")
    shared = _Shared(2 * TARGETS[outcome.target].largest)
    receiver, sender = spawning.Pipe(duplex=False)
    process = spawning.Process(target=_try_all, args=(outcome.target, inputs, seed, shared, sender), daemon=True)
    process.start()
    sender.close()
    watched = psutil.Process(process.pid)
    last, since_s, base_mib = -1, 0.0, 0.0
    finding: tuple[str, str] | None = None
    while process.is_alive() and not receiver.poll(_POLL_S):
        tried, (used_s, mib) = shared.tried, _usage(watched)
        outcome.peak_mib = max(outcome.peak_mib, mib)
        tell(outcome.inputs + tried)
        if tried != last:
            last, since_s = tried, used_s
            base_mib = mib if tried < WARM_UP or not base_mib else base_mib
        # Until the first input, the process imports and prepares.
        if tried and used_s - since_s > longest_s:
            finding = ("hang", f"took more than {longest_s:.0f} s of processor time")
        elif base_mib and mib > base_mib + MOST_MEMORY_MIB:
            finding = ("memory", f"{mib:.0f} MiB, {base_mib:.0f} MiB before")
        if finding:
            process.kill()
            break
    counts: Counter[str] = Counter()
    try:
        if finding is None:
            counts, found, peak_mib = receiver.recv()
            outcome.peak_mib = max(outcome.peak_mib, peak_mib)
            finding = found
    except EOFError:  # it died without a word
        process.join()
        finding = ("crash", f"the process ended with code {process.exitcode}")
    process.join()
    outcome.inputs += shared.tried
    outcome.outcomes += counts
    if finding is not None:
        kind, message = finding
        outcome.findings.append(Finding(outcome.target, kind, message, shared.content))


def _usage(process: psutil.Process) -> tuple[float, float]:
    """Processor time in seconds and memory in MiB."""
    try:
        times = process.cpu_times()
        return times.user + times.system, float(process.memory_info().rss) / 2**20
    except psutil.NoSuchProcess:
        return 0.0, 0.0


def _try_all(name: str, inputs: int, seed: int, shared: _Shared, sender: Connection) -> None:
    """In a process of its own: try inputs until one raises, and send what became of them."""
    target, random = TARGETS[name], Random(seed)
    counts: Counter[str] = Counter()
    finding: tuple[str, str] | None = None
    kept, seen = target.seeds(), set[str]()
    seeds, check = list(kept), target.prepare()
    try:
        for number in range(inputs):
            # Half of them close to good inputs, whatever was kept: most of what is new is new in how it is wrong.
            of = seeds if random.random() < 0.5 else kept
            content = seeds[number] if number < len(seeds) else made_of(target, of, random)
            shared.begin(content)
            label = check(content)
            counts[label.partition(":")[0]] += 1
            kind = label.translate(_DIGITS)
            if kind not in seen and len(kept) < MOST_KEPT:
                seen.add(kind)
                kept.append(content)
    except Exception:
        finding = ("exception", traceback.format_exc(limit=-6))
    sender.send((counts, finding, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    sender.close()


def made_of(target: Target, kept: Sequence[bytes], random: Random) -> bytes:
    """A new input for a target out of known ones."""
    content = mutate(random.choice(kept), random.choice(kept), random, target.grammar, target.largest)
    return target.repair(content, random)
