"""Documents that people wrote: links lead somewhere, the glossary is in order, paths that are named exist."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import pytest

from stream.outputs import LETTER_HEADERS, SOURCE_HEADER, RefusalCode

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GLOSSARY = DOCS / "glossary.md"
PACKAGES = (
    "bench",
    "deploy",
    "desk",
    "docs",
    "events",
    "foreshock",
    "migrations",
    "model",
    "reports",
    "stream",
    "tests",
)
DOCUMENTS = sorted(
    path for pattern in ("*.md", *(f"{name}/**/*.md" for name in PACKAGES)) for path in ROOT.glob(pattern)
)

_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_NAME = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.(?!toml`)\w+)+)`")
_PATH = re.compile(rf"`((?:{'|'.join(PACKAGES)})/[\w./-]+)`")


HEADERS = {SOURCE_HEADER, *LETTER_HEADERS}
"""Names of Kafka headers that begin as a package does."""


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return _FENCED.sub("", path.read_text(encoding="utf-8"))


def links(path: Path) -> Iterator[str]:
    """Targets of the links and pictures of a document that lead to a file of the repository."""
    for target in _LINK.findall(_CODE.sub("", prose(path))):
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            yield target


@cache
def anchors(path: Path) -> frozenset[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(prose(path)):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return frozenset(found)


def broken_links(path: Path) -> Iterator[str]:
    for target in links(path):
        name, _, anchor = target.partition("#")
        there = (path.parent / unquote(name)).resolve() if name else path
        if not there.exists():
            yield f"{target}: there is no {there}"
        elif anchor and there.suffix == ".md" and unquote(anchor) not in anchors(there):
            yield f"{target}: {there.name} has no heading for #{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert not list(broken_links(path))


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# A *name*, and more\n\n## Twice\n\n## Twice\n")
    page.write_text(
        "[a](other.md#a-name-and-more) [b](other.md#twice-1) [c](other.md#thrice) [d](none.md) `[e](f.md)`\n"
    )
    found = list(broken_links(page))
    assert [one.split(":")[0] for one in found] == ["other.md#thrice", "none.md"]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if "lab" not in path.parts], ids=lambda path: path.name)
def test_every_path_that_a_document_names_exists(path: Path) -> None:
    assert [name for name in _PATH.findall(prose(path)) if not (ROOT / name).exists()] == []


def missing_names(path: Path) -> Iterator[str]:
    """Dotted names of modules, classes and functions in a document that are not in the code."""
    for name in set(_NAME.findall(prose(path))) - HEADERS:
        parts = name.split(".")
        known = [number for number in range(1, len(parts) + 1) if source_of(parts[:number])]
        source = source_of(parts[: known[-1]]) if known else None
        rest = parts[known[-1] :] if known else parts
        if source is None or (rest and not re.search(rf"^\s*(?:(?:async )?def |class )?{rest[0]}\b", source, re.M)):
            yield name


def source_of(parts: list[str]) -> str | None:
    """The text of a module or package by the parts of its dotted name."""
    folder = ROOT.joinpath(*parts)
    found = next((file for file in (folder.with_suffix(".py"), folder / "__init__.py") if file.is_file()), None)
    return None if found is None else found.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if "lab" not in path.parts and path.name != "CHANGELOG.md"],
    ids=lambda path: path.name,
)
def test_every_name_of_the_code_that_a_document_gives_exists(path: Path) -> None:
    assert list(missing_names(path)) == []


def test_every_document_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            named = [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
            waiting += [there for there in named if there.suffix == ".md" and there.exists()]
    assert [path for path in DOCUMENTS if path not in reached] == []


def test_the_glossary_is_sorted_and_defines_each_term_once() -> None:
    terms = re.findall(r"^## (.+)$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    assert terms == sorted(terms, key=str.casefold)
    assert len(terms) == len({term.casefold() for term in terms})
    sections = re.split(r"^## .+$", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert all(section.strip() for section in sections)


def test_every_refusal_code_is_explained() -> None:
    page = (DOCS / "topics.md").read_text(encoding="utf-8")
    table = page.partition("## Why an input was refused")[2].partition("## ")[0]
    explained = {code for row in re.findall(r"^\| (`.+?) \|", table, re.M) for code in re.findall(r"`(\w+)`", row)}
    assert explained == set(get_args(RefusalCode))


def test_the_readme_links_to_the_glossary() -> None:
    assert "docs/glossary.md" in links(ROOT / "README.md")


def test_the_simulator_is_used_as_its_page_says() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", (DOCS / "simulator.md").read_text(encoding="utf-8"), re.M | re.S)
    found: dict[str, object] = {}
    exec(compile(example, "docs/simulator.md", "exec"), found)
    assert "portfolio" in found
