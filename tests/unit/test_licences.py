"""What the installed packages say of their licences: permissive, or listed with a reason in docs/licences.md."""

from __future__ import annotations

import importlib.metadata
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINNED = [canonicalize_name(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()]

PERMISSIVE = {
    "0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc0-1.0", "isc", "mit", "mit-cmu", "psf-2.0",
    "unlicense", "zlib",
}  # fmt: skip
"""SPDX identifiers of licences that ask for a notice, at most."""

COMMONLY = {
    "apache": "apache-2.0",
    "apache 2": "apache-2.0",
    "apache 2.0": "apache-2.0",
    "apache license, version 2.0": "apache-2.0",
    "apache software license": "apache-2.0",
    "3-clause bsd license": "bsd-3-clause",
    "bsd": "bsd-3-clause",
    "bsd 3-clause license": "bsd-3-clause",
    "bsd license": "bsd-3-clause",
    "bsd-derived (repoze)": "bsd-3-clause",
    "repoze public license": "bsd-3-clause",
    "isc license": "isc",
    "isc license (iscl)": "isc",
    "mit license": "mit",
    "python software foundation license": "psf-2.0",
    "gnu general public license v2 (gplv2)": "gpl-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "mpl-2.0",
    "other/proprietary license": "proprietary",
    "licenseref-nvidia-proprietary": "proprietary",
    "nvidia proprietary software": "proprietary",
}
"""What packages say instead, in lower case."""

LONGEST_NAME = 60
"""The field `License` holds a name, or else the whole text, of which the first line is no name."""


def stated(expression: str | None, classifiers: list[str], licence: str | None) -> str:
    """The licence as one expression: the SPDX one, else what the field names, else the classifiers; or "nothing"."""
    field = (licence or "").strip()
    named = (
        field if field and len(field) <= LONGEST_NAME and "\n" not in field and "copyright" not in field.lower() else ""
    )
    said = expression or named or " AND ".join(entry.rsplit(" :: ", 1)[-1] for entry in classifiers)
    known = COMMONLY.get(said.lower())
    return known or " AND ".join(COMMONLY.get(part.lower(), part) for part in said.split(" AND ")) or "nothing"


def permissive(expression: str) -> bool:
    """Whether every part joined by AND has a permissive licence, of those joined by OR any one."""
    parts = re.split(r"\s+AND\s+", expression.replace("(", "").replace(")", ""))
    return all(
        any(re.split(r"\s+WITH\s+", each)[0].strip().lower() in PERMISSIVE for each in re.split(r"\s+OR\s+", part))
        for part in parts
    )


def installed() -> dict[str, str]:
    """What each pinned package that is installed here states."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name, about = canonicalize_name(distribution.metadata["Name"]), distribution.metadata
        classifiers = [entry for entry in about.get_all("Classifier") or [] if entry.startswith("License ::")]
        if name in PINNED:
            found[name] = stated(about.get("License-Expression"), classifiers, about.get("License"))
    return found


def listed() -> dict[str, str]:
    """Patterns of packages and what they state, by the table."""
    rows = re.findall(
        r"^\| `([^`]+)` \| ([^|]+) \|[^|]+\|[^|]+\|$", (ROOT / "docs/licences.md").read_text(), re.MULTILINE
    )
    return {name: text.strip() for name, text in rows}


INSTALLED, LISTED = installed(), listed()


def test_there_is_something_to_judge() -> None:
    assert len(INSTALLED) > 50
    assert len(LISTED) > 5


@pytest.mark.parametrize("name", sorted(INSTALLED))
def test_a_licence_is_permissive_or_listed_as_it_is(name: str) -> None:
    found = INSTALLED[name]
    words = {text.lower() for pattern, text in LISTED.items() if fnmatch(name, pattern)}
    assert permissive(found) or found.lower() in words, (
        f"{name} states {found!r}; if it may be used, list it in docs/licences.md with the reason"
    )


def test_the_list_holds_nothing_that_is_not_needed() -> None:
    superfluous = [
        pattern
        for pattern in LISTED
        if not any(fnmatch(name, pattern) for name in PINNED)
        or (
            (here := [text for name, text in INSTALLED.items() if fnmatch(name, pattern)])
            and all(map(permissive, here))
        )
    ]
    assert superfluous == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-2.0-only", True),
        ("(Apache-2.0 WITH LLVM-exception) AND BSD-2-Clause", True),
        ("MIT AND LGPL-3.0-only", False),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0-only OR proprietary", False),
        ("nothing", False),
    ],
)
def test_what_is_permissive(expression: str, expected: bool) -> None:
    assert permissive(expression) is expected


def test_what_is_stated() -> None:
    assert stated("MIT", ["License :: OSI Approved :: BSD License"], "GPL") == "MIT"
    assert stated(None, ["License :: OSI Approved :: BSD License"], "Copyright (c) 2015, all rights\nreserved") == (
        "bsd-3-clause"
    )
    assert stated(None, [], "MPL-2.0 AND MIT") == "MPL-2.0 AND MIT"
    assert stated(None, ["License :: OSI Approved :: GNU General Public License v2 (GPLv2)"], None) == "gpl-2.0"
    assert stated(None, [], None) == "nothing"
