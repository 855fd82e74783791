"""Runs one target under Atheris, which looks for inputs that reach new code (libFuzzer). A program of its own:

    python -m bench.fuzzing.guided TARGET INPUTS SEED FOLDER

libFuzzer writes to standard error and ends the process: with code 0 when all inputs were tried; else the input is in
FOLDER. Needs the extra `fuzz`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

INSTRUMENTED = ["events", "model", "stream", "aiokafka", "msgspec", "tomllib"]
"""Packages whose branches count as coverage. What is compiled is not seen."""

with atheris.instrument_imports(include=INSTRUMENTED):
    from bench.fuzzing.mutation import mutate
    from bench.fuzzing.run import LONGEST_INPUT_S, MOST_MEMORY_MIB
    from bench.fuzzing.targets import TARGETS


def main(name: str, inputs: str, seed: str, folder: str) -> None:
    """Does not return."""
    target = TARGETS[name]
    corpus = Path(folder) / f"{name}-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = target.seeds()
    for number, content in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(content)
    check = target.prepare()

    def try_one(content: bytes) -> None:
        check(content)

    def mutator(content: bytes, most: int, number: int) -> bytes:
        """Half of the time libFuzzer's own mutation, which knows what it compared; then repaired as the others."""
        chosen = random.Random(number)
        if chosen.random() < 0.5:
            content = bytes(atheris.Mutate(content, most))
        else:
            content = mutate(content, chosen.choice(seeds), chosen, target.grammar, most)
        return target.repair(content, chosen)[:most]

    options = {
        "runs": inputs,
        "seed": seed,
        "max_len": str(2 * target.largest),
        "timeout": f"{LONGEST_INPUT_S:.0f}",
        "rss_limit_mb": str(2 * MOST_MEMORY_MIB),
        "artifact_prefix": f"{folder}/{name}-",
        "print_final_stats": "1",
    }
    arguments = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)]
    atheris.Setup(arguments, try_one, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
