"""Targets of what an operator writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.fuzzing.mutation import JSON_VALUES, Grammar
from bench.fuzzing.target import Check, Target
from stream.settings import SettingsError, load_settings

_TOML = Grammar(
    (*JSON_VALUES, b"'", b'"""', b"[a]\n", b"[[a]]\n", b"\xef\xbb\xbf", b"\xff\xfe", b"1979-05-27T07:32:00Z", b"0x1F",
     b"inf", b"nan", b"1_000", b'"localhost:9092"', b'"SSL"', b"bundle", b"partitions", b"log_level", b"= ", b"\n",
     b"\r"),
    b"=", b"\n",
)  # fmt: skip


def _settings_seeds() -> list[bytes]:
    return [
        b'bootstrap_servers = "localhost:9092"\npartitions = 4\ncommit_interval_s = 0.5\nwatchdog = true\n',
        b'bundle = "model"\nstate_dir = "rows"\nresident_users = 10\nlog_level = "debug"\n[more]\na = [1, 2]\n',
    ]


def _settings() -> Check:
    path = Path(tempfile.mkdtemp(prefix="foreshock-fuzz-")) / "foreshock.toml"

    def check(content: bytes) -> str:
        path.write_bytes(content)
        try:
            load_settings(path)
        except SettingsError as error:
            return f"refused: {str(error).rpartition(':')[2][:20]}"
        return "settings"

    return check


TARGETS = (Target("settings", "foreshock.toml", _settings_seeds, _settings, _TOML),)
