"""The Python environment of the other frameworks, which need other versions of common packages than Foreshock does.

`peers.txt`, beside this module, has the exact versions.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

PEERS_FILE = Path(__file__).with_name("peers.txt")
FOLDER = "bench-peers"


class PeersError(RuntimeError):
    """The peers' environment could not be made; the message says why."""


def folder_of(stack_dir: Path) -> Path:
    """Where the environment is, or would be."""
    return stack_dir / FOLDER


def python_of(stack_dir: Path) -> Path | None:
    """The environment's Python; None where `install` has not been run or was cut short."""
    folder = folder_of(stack_dir)
    if not (folder / "installed").is_file():
        return None
    return folder.absolute() / "bin" / "python"


def install(stack_dir: Path, tell: Callable[[str], None] = lambda _: None) -> Path:
    """Make the environment and return its Python. Uses pip and its configuration. Raises `PeersError`."""
    folder = folder_of(stack_dir)
    tell(f"making {folder}")
    venv.create(folder, with_pip=True, clear=True)
    python = folder.absolute() / "bin" / "python"
    tell("installing the other frameworks")
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-r", str(PEERS_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeersError(f"pip could not install what {PEERS_FILE} lists: {done.stderr.strip()[-2000:]}")
    (folder / "installed").write_text(f"{sys.version_info.major}.{sys.version_info.minor}\n")
    return python
