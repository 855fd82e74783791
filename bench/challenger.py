"""Makes another model of a bundle, for measurements and runs in which one takes the place of another."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from model.bundle import read_manifest, write_manifest


def challenger_of(bundle: Path, folder: Path) -> Path:
    """A copy in a new folder, of the same network under half of the thresholds: another model, as costly, which opens
    more alerts. It is not signed."""
    shutil.copytree(bundle, folder)
    manifest, _ = read_manifest(folder)
    halved = msgspec.structs.replace(
        manifest.thresholds, medium=manifest.thresholds.medium / 2, high=manifest.thresholds.high / 2
    )
    write_manifest(folder, msgspec.structs.replace(manifest, thresholds=halved))
    return folder
