"""The commands of docs/guides/change-a-model.md, one after the other, as the page has them, on what a simulated
portfolio has brought: there and back. That of training is run by the tests of training."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.challenger import challenger_of
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.outputs import Score
from stream.settings import PRETRAINED_BUNDLE
from stream.topics import shadow_application
from tests import forked

Deploy = Callable[..., Any]

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "change-a-model.md"


class Guide:
    """The commands of the page, with names and paths of a test in the place of those that it has."""

    def __init__(self, names: dict[str, str], environment: dict[str, str]) -> None:
        self._left = re.findall(r"^ {4}foreshock (.+?)(?:\s{2,}#.*)?$", GUIDE.read_text(), re.MULTILINE)
        self._inline = re.findall(r"`foreshock ([^`]+)`", GUIDE.read_text())
        self._names = names
        self.environment = {**os.environ, **environment}

    @property
    def left(self) -> list[str]:
        """Commands that were not given out yet."""
        return self._left

    def take(self, beginning: str) -> list[str]:
        """The next command that begins so."""
        line = next(line for line in self._left if line.startswith(beginning))
        self._left.remove(line)
        return self.with_names(line)

    def inline(self, beginning: str, **values: str) -> list[str]:
        """The command that begins so within the text; `values` stand in the place of its …."""
        (line,) = {line for line in self._inline if line.startswith(beginning)}
        return self.with_names(line.replace("…", values.get("user", "…")))

    def with_names(self, line: str) -> list[str]:
        known = re.compile("|".join(map(re.escape, sorted(self._names, key=len, reverse=True))))
        return shlex.split(known.sub(lambda found: self._names[found[0]], line))

    def run(self, beginning: str, *more: str) -> subprocess.CompletedProcess[str]:
        """What the command says. It has to succeed."""
        return self.ask([*self.take(beginning), *more])

    def ask(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        done = forked.run(command, environment=self.environment)
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done


@pytest.mark.slow
def test_the_guide_leads_there_and_back(deploy: Deploy, database: DatabaseConnection, tmp_path: Path) -> None:
    migration.upgrade(database)
    live = deploy(partitions=1)
    giver = live.settings.application_id
    taker = shadow_application(giver, "may")
    bundle = challenger_of(PRETRAINED_BUNDLE, tmp_path / "2026-05")
    events = list(open_dataset("simulator", users=30, months=6, seed=31).events())
    parts = [events[start : start + len(events) // 3 + 1] for start in range(0, len(events), len(events) // 3 + 1)]
    former = Bundle.load(PRETRAINED_BUNDLE).fingerprint_hex[:8]
    names = {
        "bundles/2026-05": str(bundle),
        "signing.pem": str(tmp_path / "signing.pem"),
        "may.json": str(tmp_path / "may.json"),
        "foreshock-shadow-may": taker,
        "model/pretrained": str(PRETRAINED_BUNDLE),
        "1d75": former,
        "83ab": Bundle.load(bundle).fingerprint_hex[:8],
        "past.html": str(tmp_path / "past.html"),
        "2026-05-04": "2023-01-01",
        "2025-01-01": "2023-01-01",
        "2026-01-01": "2024-01-01",
    }
    variables = {"bootstrap_servers": str(live.kafka), "database_url": database.url, **live.options}
    guide = Guide(names, {f"FORESHOCK_{name.upper()}": str(value) for name, value in variables.items()})
    inputs = live.topics.inputs
    guide.ask(["bundle", "keygen", str(tmp_path / "signing.pem"), str(tmp_path / "signing.pub")])
    for decision in ("models register", "models approve", "models alias"):
        guide.run(decision)

    def takes(part: list[Any], *groups: str) -> None:
        live.publish(part)
        for group in groups * 2:
            live.wait(lambda group=group: live.committed(group, inputs) == live.size(*inputs), f"{group}")

    def models() -> list[str]:
        """One after the other, those whose scores are live."""
        found: list[str] = []
        for record in live.records(live.topics.scores):
            model = msgspec.json.decode(record.value, type=Score).model
            if found[-1:] != [model]:
                found.append(model)
        return found

    with live.running("worker", "before") as before:
        takes(parts[0], giver)
        guide.run("bundle sign")
        assert names["83ab"] in guide.run("models register").stdout
        guide.run("models show")
        guide.run("models approve")
        guide.run("models alias")
        shadow = guide.take("shadow run")
        assert shadow[-2:] == ["--bundle", str(bundle)]
        with live.running(" ".join(shadow[:-2]), "shadow", bundle=bundle):
            takes(parts[1], giver, taker)
            guide.run("shadow report")
            assert json.loads((tmp_path / "may.json").read_text())["scores"]["compared"] > 0
            guide.ask(guide.inline("explain --user", user=events[0].user_id))
            guide.run("replay plan")
            guide.run("replay run")
            differs = forked.run(guide.take("replay diff"), environment=guide.environment)
            assert differs.returncode == 3, differs.stdout + differs.stderr
            assert "<html" in (tmp_path / "past.html").read_text()
            guide.run("replay promote")
            guide.ask(guide.inline("models alias"))
            takes(parts[2][: len(parts[2]) // 2], taker)
            live.wait(lambda: not before.alive, "the workers of before to end")
            assert "never retrieved" not in before.log_text()
            with live.running("worker", "once-more") as once_more:
                live.wait(lambda: not once_more.alive, "it to end")
                assert f"was handed over to {taker}" in once_more.log_text()
            with live.running(" ".join(guide.take("worker --follow")), "back") as back:
                live.wait(lambda: live.committed(giver, inputs) == live.size(*inputs), "the model of before", back)
                guide.run("replay rollback")
                takes(parts[2][len(parts[2]) // 2 :], giver)
            live.wait(lambda: len(models()) == 3, "the way back")
    assert len(models()) == 3
    assert models()[0] == models()[2]
    guide.run("models alias")
    guide.run("models retire")
    group = f"group {taker}"
    assert group in guide.run("shadow remove").stdout
    assert [line.partition(" ")[0] for line in guide.left] == ["train"], "the whole page was followed"
