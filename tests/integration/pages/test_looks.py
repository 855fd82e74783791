"""What pages look like: nothing that keeps people out, nothing that sticks out, pictures for the documents."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from stream.database import registry, replay_runs
from stream.database.registry import Decider
from tests.integration.desk.test_portfolio import DIFF
from tests.integration.pages.conftest import Site, Visit
from tests.integration.test_model_registry import a_model

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
MOST_PICTURE_BYTES = 150_000
SLOWEST_S = 0.3

PLACES = {
    "lea": ("/queue", "/queue?level=HIGH", "case", "lower", "/portfolio", "/portfolio/forecast", "/portfolio/drift",
            "/portfolio/replays/march", "/evidence", "/help", "/queue?user=nobody", "/nothing-here"),
    "ops": ("/operations", "/operations/hand-over"),
}  # fmt: skip
"""Pages by who looks at them; `case` and `lower` are of the first case of the queue."""


@pytest.fixture(autouse=True)
def _models_and_replays(site: Site) -> None:
    """What pages show of both: a model to be decided about, and a replay that was compared."""
    registry.register(site.database, a_model(), Decider("olga", "trained on 2026"))
    now = site.clock()
    replay_runs.record_start(site.database, "march", now - dt.timedelta(90), now, a_model().fingerprint)
    replay_runs.record_end(site.database, "march", "finished", {"scored": 1000})
    replay_runs.record_diff(site.database, "march", DIFF)


def first_case(site: Site) -> str:
    query = "SELECT alert_id FROM cases WHERE closed_at IS NULL ORDER BY rank DESC, score DESC, alert_id DESC LIMIT 1"
    return str(site.rows(query)[0][0])


def addresses(site: Site, name: str) -> Iterator[str]:
    case = f"/cases/{first_case(site)}"
    for place in PLACES[name]:
        yield {"case": case, "lower": f"{case}/lower"}.get(place, place)


AXE = Axe()
RESULTS = {"resultTypes": ["violations"]}
COLOURS = {**RESULTS, "runOnly": ["color-contrast"]}
"""What a scheme may change: all other rules look at structure and words, which are the same in both."""


def serious(page: Page, options: dict[str, Any]) -> list[str]:
    """What axe-core finds that keeps somebody from using the page."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.axe_script)
    found = page.evaluate("options => axe.run(options)", options)["violations"]
    return [
        f"{page.url}: {one['id']}: {one['nodes'][0]['html'][:120]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def sticks_out(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


@pytest.mark.parametrize(("scheme", "rules"), [("light", RESULTS), ("dark", COLOURS)], ids=["light", "dark"])
def test_pages_keep_nobody_out(visit: Visit, site: Site, scheme: str, rules: dict[str, Any]) -> None:
    wrong = []
    for name in PLACES:
        page = visit(name, color_scheme=scheme, expect_errors=True, reduced_motion="reduce")
        for address in addresses(site, name):
            page.goto(address)
            if rules is RESULTS:
                wrong += serious(page, rules)
            # What is open shows all that was to be seen before, and more.
            page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            wrong += serious(page, rules)
        page.keyboard.press("?")
        wrong += serious(page, rules)
    page = visit(None, color_scheme=scheme)
    wrong += serious(page, rules)
    assert wrong == []


@pytest.mark.parametrize("widths", [(360, 768), (1024, 1600)], ids=["folded", "unfolded"])
def test_nothing_sticks_out(visit: Visit, site: Site, widths: tuple[int, ...]) -> None:
    """Whether a page folds parts is settled when it is opened: the narrower windows do, the wider ones do not."""
    wrong = []
    for name in PLACES:
        page = visit(name, expect_errors=True)
        for language in ("en", "de"):
            site.rows("UPDATE accounts SET language = %s RETURNING 1", language)
            for address in addresses(site, name):
                page.set_viewport_size({"width": widths[0], "height": 800})
                page.goto(address)
                for width in widths:
                    page.set_viewport_size({"width": width, "height": 800})
                    wrong += [f"{address} at {width} ({language})"] if sticks_out(page) else []
    assert wrong == []


def test_long_names_stick_out_nowhere(visit: Visit, site: Site) -> None:
    """Ids and notes come from outside: long ones, and ones that look like markup."""
    case = first_case(site)
    awful = "<script>alert(1)</script>" + "x" * 120
    site.rows("UPDATE cases SET user_id = %s, product = %s WHERE alert_id = %s RETURNING 1", awful, awful, case)
    page = visit("lea", viewport={"width": 360, "height": 800})
    for address in ("/queue", f"/cases/{case}", "/evidence"):
        page.goto(address)
        assert not sticks_out(page), address
    expect(page.get_by_text(awful).first).to_be_attached()


def test_the_first_thing_that_takes_focus_skips_to_the_content(visit: Visit) -> None:
    page = visit("ann")
    page.goto("/queue")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_what_has_focus_is_seen(visit: Visit) -> None:
    page = visit("lea")
    outlines: list[Any] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        outlines.append(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert set(outlines) <= {"solid", "auto"}


def test_pages_come_quickly(visit: Visit, site: Site) -> None:
    """At the server, of a small portfolio; `foreshock bench desk` measures a large one."""
    page = visit("lea")
    for address in ("/queue", f"/cases/{first_case(site)}"):
        taken = []
        for _ in range(5):
            begin = time.perf_counter()
            assert page.request.get(address).status == 200
            taken.append(time.perf_counter() - begin)
        assert min(taken) < SLOWEST_S, address


SHOWN = {"queue": ("lea", 1200, 800), "case": ("ann", 1200, 1060), "portfolio": ("lea", 1200, 720)}
"""Pictures of the documents: who looks, and how large the window is."""


@pytest.mark.parametrize("name", SHOWN)
def test_the_documents_show_pages_as_they_are(visit: Visit, site: Site, name: str, tmp_path: Path) -> None:
    """With TAKE_PICTURES=1 the pictures are taken anew; else it is looked whether they are there."""
    anew = os.environ.get("TAKE_PICTURES") == "1"
    who, width, height = SHOWN[name]
    page = visit(who, viewport={"width": width, "height": height}, reduced_motion="reduce")
    if name == "case":
        page.goto(f"/cases/{first_case(site)}")
        expect(page.locator("[data-answer]")).to_be_attached()
    else:
        page.goto(f"/{name}")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    taken = tmp_path / f"{name}.png"
    page.screenshot(path=taken)
    kept = PICTURES / f"desk-{name}.png"
    if anew:
        with Image.open(taken) as picture:
            picture.convert("RGB").quantize(128).save(kept, optimize=True)
    assert kept.is_file(), f"{kept.name} is missing; TAKE_PICTURES=1 takes it"
    assert kept.stat().st_size <= MOST_PICTURE_BYTES
    with Image.open(kept) as picture:
        assert picture.size == (width, height)
