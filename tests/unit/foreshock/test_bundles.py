"""`bundle keygen`, `bundle sign` and `bundle verify`; and every command checks the signature where a key is set."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foreshock import app
from model.bundle import Bundle
from stream.settings import PRETRAINED_BUNDLE

runner = CliRunner()
ROOT = Path(__file__).parents[3]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PRETRAINED_BUNDLE, tmp_path / "bundle"))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "signing.pem", tmp_path / "signing.pub"
    result = runner.invoke(app, ["bundle", "keygen", str(private), str(public)])
    assert result.exit_code == 0, result.output
    return private, public


def test_a_bundle_is_signed_and_verified(bundle: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    before = Bundle.load(bundle).fingerprint
    assert private.stat().st_mode & 0o777 == 0o600
    result = runner.invoke(app, ["bundle", "verify", str(bundle), "--public-key", str(public)])
    assert result.exit_code == 1
    assert "manifest.json.sig is missing" in result.stderr
    result = runner.invoke(app, ["bundle", "sign", str(bundle), "--key", str(private)])
    assert result.exit_code == 0, result.output
    result = runner.invoke(app, ["bundle", "verify", str(bundle), "--public-key", str(public)])
    assert result.exit_code == 0, result.output
    assert "signature: by key" in result.stdout
    assert "signed documents: MODEL_CARD.md, curves.svg, reference.json" in result.stdout
    assert Bundle.load(bundle, public).fingerprint == before
    (bundle / "reference.json").write_text("{}")
    result = runner.invoke(app, ["bundle", "verify", str(bundle), "--public-key", str(public)])
    assert (result.exit_code, "reference.json was changed since" in result.stderr.replace("\n", " ")) == (1, True)


def test_without_a_key_the_signature_is_not_checked_and_it_says_so(bundle: Path) -> None:
    result = runner.invoke(app, ["bundle", "verify", str(bundle)])
    assert result.exit_code == 0
    assert "6 files as manifest.json says" in result.stdout
    assert "signature: not checked" in result.stdout


def test_keys_are_never_overwritten(keys: tuple[Path, Path], tmp_path: Path) -> None:
    before = keys[0].read_bytes()
    result = runner.invoke(app, ["bundle", "keygen", str(keys[0]), str(tmp_path / "new.pub")])
    assert result.exit_code == 1
    assert "is there already" in result.stderr
    assert keys[0].read_bytes() == before


@pytest.mark.parametrize("key", ["public", "missing"])
def test_a_key_that_cannot_sign_is_named(bundle: Path, keys: tuple[Path, Path], key: str, tmp_path: Path) -> None:
    path = keys[1] if key == "public" else tmp_path / "no-such.pem"
    result = runner.invoke(app, ["bundle", "sign", str(bundle), "--key", str(path)])
    assert result.exit_code == 1
    assert path.name in result.stderr.replace("\n", "")
    assert not (bundle / "manifest.json.sig").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate"],
        ["reasons", "measure"],
        ["reasons", "calibrate", "--users", "10", "--months", "2"],
        ["demo"],
        ["explain", "--user", "u", "--source", "simulator", "--users", "10", "--months", "1"],
    ],
)
def test_an_unsigned_bundle_is_refused_where_a_key_is_set(
    command: list[str], bundle: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHOCK_BUNDLE_PUBLIC_KEY", str(keys[1]))
    result = runner.invoke(app, [*command, "--bundle", str(bundle)])
    assert result.exit_code == 1
    assert "manifest.json.sig is missing, and bundle_public_key asks" in result.stderr.replace("\n", "")


def _loads_of_settings(path: Path) -> list[tuple[int, int]]:
    """Line and number of arguments of each call that opens the bundle of the settings."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = ("Bundle.load", "read_manifest")
    return [
        (call.lineno, len(call.args) + len(call.keywords))
        for call in calls
        if ast.unparse(call.func) in names and call.args and "settings.bundle" in ast.unparse(call.args[0])
    ]


def test_the_bundle_of_the_settings_is_opened_with_their_key() -> None:
    paths = [path for package in ("foreshock", "stream", "reports", "bench") for path in (ROOT / package).rglob("*.py")]
    found = {path: _loads_of_settings(path) for path in paths}
    assert sum(map(len, found.values())) > 12
    assert [f"{path}:{line}" for path, calls in found.items() for line, count in calls if count < 2] == []
