"""Days at the desk in a real browser: a collector's, a lead's, an operator's; two people at one case; news."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.integration.pages.conftest import Site, Visit


@pytest.fixture
def desk_options() -> dict[str, Any]:
    return {"desk_daily_cap": 3}


def take_next(page: Page) -> str:
    """Press the key of the next case; returns its id."""
    shown = page.locator("#case")
    before = shown.get_attribute("data-id") if shown.count() else ""
    page.keyboard.press("n")
    page.wait_for_selector(f"#case:not([data-id='{before}'])")
    return str(shown.get_attribute("data-id"))


def actions(site: Site, alert_id: str) -> list[str]:
    """What people did about a case, in order."""
    rows = site.rows(
        "SELECT action FROM case_actions WHERE alert_id = %s AND actor <> 'foreshock' ORDER BY number", alert_id
    )
    return [str(row[0]) for row in rows]


def status(site: Site, alert_id: str) -> tuple[Any, ...]:
    return site.rows("SELECT status, closed_as, assignee FROM cases WHERE alert_id = %s", alert_id)[0]


def told(page: Page, text: str) -> None:
    expect(page.locator("#notice")).to_contain_text(text)


def open_form(page: Page, name: str) -> None:
    page.locator("#case-actions summary", has_text=re.compile(f"^{name}$")).click()


def test_a_collectors_day(visit: Visit, site: Site) -> None:
    page = visit("ann")
    expect(page.locator("#cap")).to_have_text("Taken today: 0 of 3.")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    first = page.locator("#queue tbody tr").first.get_attribute("id")
    alert_id = take_next(page)
    assert first == f"case-{alert_id}", "the next case is the first of the queue"
    assert status(site, alert_id) == ("acknowledged", None, "ann")
    expect(page.locator("#case-reasons li").first).to_contain_text("log-odds")
    expect(page.locator("#case-course svg").first).to_be_visible()
    expect(page.locator("#case-lower [data-answer]")).to_contain_text("The score is")

    open_form(page, "Contacted")
    page.get_by_label("How").select_option("phone")
    page.locator("#contact-reason").fill("Lost his job, starts <b>again</b> in May")
    page.get_by_role("button", name="Save contact").click()
    told(page, "Done: Contacted.")
    expect(page.locator("#case-history")).to_contain_text("Phone: Lost his job, starts <b>again</b> in May")

    open_form(page, "Promise to pay")
    page.get_by_label("Amount").fill("1,250.50")
    page.locator("#promise-due").fill((site.clock.now + dt.timedelta(days=10)).date().isoformat())
    page.get_by_role("button", name="Save promise").click()
    told(page, "Done: Promise to pay.")
    assert site.rows("SELECT amount, state FROM promises WHERE alert_id = %s", alert_id) == [(1250.5, "open")]
    expect(page.locator("#case-head")).to_contain_text("Promised to pay")

    open_form(page, "Snooze")
    page.locator("#snooze-until").fill((site.clock.now + dt.timedelta(days=5)).date().isoformat())
    page.get_by_role("button", name="Snooze").last.click()
    told(page, "Done: Snoozed.")

    second = take_next(page)
    assert second != alert_id
    open_form(page, "Close")
    page.locator("#close-as").select_option("paid")
    page.locator("#close-reason").fill("All paid by transfer")
    page.get_by_role("button", name="Close case").click()
    told(page, "Done: Closed.")
    assert status(site, second) == ("closed", "paid", "ann")
    assert actions(site, alert_id) == ["take", "contact", "promise", "snooze"]

    take_next(page)
    page.keyboard.press("n")
    told(page, "You have taken all 3 cases that a day allows.")
    page.keyboard.press("u")
    page.wait_for_url("**/queue")
    expect(page.locator("#cap")).to_have_text("Taken today: 3 of 3.")


def test_a_leads_day(visit: Visit, site: Site) -> None:
    ann, lea = visit("ann", expect_errors=True), visit("lea")
    alert_id = _asks_for_a_review(ann, site)

    lea.goto("/queue")
    lea.get_by_role("link", name="Nobody's").click()
    boxes = lea.locator("#queue tbody input[type=checkbox]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    lea.get_by_label("Give the picked ones to").select_option("ben")
    lea.get_by_role("button", name="Assign").click()
    told(lea, "2 cases were assigned.")
    assert site.rows("SELECT count(*) FROM cases WHERE assignee = 'ben'") == [(2,)]

    lea.get_by_label("Level").select_option("HIGH")
    lea.get_by_role("button", name="Show").click()
    lea.wait_for_url("**/queue?*level=HIGH*")
    expect(lea.locator("#queue tbody .badge.MEDIUM")).to_have_count(0)
    lea.get_by_label("Name of this view").fill("High <mine>")
    lea.get_by_role("button", name="Save view").click()
    told(lea, "The view High <mine> is saved.")
    expect(lea.locator(".chips")).to_contain_text("High <mine>")

    lea.get_by_role("link", name="To be confirmed").click()
    lea.locator("#queue tbody a").first.click()
    assert lea.locator("#case").get_attribute("data-id") == alert_id
    open_form(lea, "Confirm the closing")
    lea.get_by_role("button", name="Confirm").last.click()
    told(lea, "Done: Closing confirmed.")
    assert status(site, alert_id)[:2] == ("closed", "false_alarm")

    lea.goto("/queue")
    with lea.expect_download() as sheet:
        lea.get_by_role("link", name="Export CSV").click()
    text = sheet.value.path().read_text(encoding="utf-8")
    assert text.startswith("alert_id,user_id,level")
    assert len(text.splitlines()) > 5


def _is_asked_why(page: Page) -> str:
    """A HIGH alert, which a collector has tried to close as a false alarm without a reason."""
    page.goto("/queue?level=HIGH")
    alert_id = take_next(page)
    open_form(page, "Close")
    page.locator("#close-as").select_option("false_alarm")
    page.get_by_role("button", name="Close case").click()
    told(page, "please say why")
    return alert_id


def _asks_for_a_review(page: Page, site: Site) -> str:
    """A HIGH alert, which a collector wants to close as a false alarm."""
    alert_id = _is_asked_why(page)
    page.locator("#close-reason").fill("The payment was booked twice")
    page.get_by_role("button", name="Close case").click()
    told(page, "Done: Asked a second person.")
    expect(page.locator("#case-actions")).to_contain_text("ann wants to close it as: False alarm")
    assert status(site, alert_id)[0] == "acknowledged"
    return alert_id


def test_an_operators_page(visit: Visit) -> None:
    page = visit("ops")
    assert page.url.endswith("/portfolio")
    page.get_by_role("link", name="Operations").click()
    expect(page.locator("#models")).to_contain_text("100%")
    expect(page.locator("#dead_letters")).to_contain_text("No input was refused")
    expect(page.get_by_role("link", name="Queue")).to_have_count(0)


def test_an_operator_sees_no_borrower(visit: Visit) -> None:
    page = visit("ops", expect_errors=True)
    answer = page.goto("/queue")
    assert answer is not None
    assert answer.status == 403
    expect(page.get_by_role("heading")).to_have_text("Not allowed")


def test_two_people_at_one_case(visit: Visit, site: Site) -> None:
    """Who comes second is told what the first did, and keeps what they typed."""
    lea, lou = visit("lea"), visit("lou", expect_errors=True)
    alert_id = take_next(lea)
    lou.goto(f"/cases/{alert_id}")
    open_form(lou, "Note")
    lou.locator("#note-reason").fill("Mother called")
    lea.get_by_role("button", name="Start").click()
    told(lea, "Done: Started.")
    expect(lou.locator("#changed")).to_be_visible()
    assert lou.locator("#note-reason").input_value() == "Mother called"
    lou.get_by_role("button", name="Save note").click()
    told(lou, "Your change was not saved")
    expect(lou.locator("#notice li")).to_contain_text("Started – lea")
    assert actions(site, alert_id) == ["take", "start"]
    assert lou.locator("#note-reason").input_value() == "Mother called"
    lou.get_by_role("button", name="Save note").click()
    told(lou, "Done: Note.")
    assert actions(site, alert_id) == ["take", "start", "note"]
    expect(lea.locator("#case-history")).to_contain_text("Mother called")


def test_a_form_that_came_back_stays_open_when_news_come(visit: Visit) -> None:
    ann, lea = visit("ann", expect_errors=True), visit("lea")
    alert_id = _is_asked_why(ann)
    lea.goto(f"/cases/{alert_id}")
    open_form(lea, "Note")
    lea.locator("#note-reason").fill("Mother called")
    lea.get_by_role("button", name="Save note").click()
    told(lea, "Done: Note.")
    expect(ann.locator("#changed")).to_be_visible()
    expect(ann.locator("#close-reason")).to_be_visible()
    assert ann.locator("#close-as").input_value() == "false_alarm"


def test_a_button_pressed_twice_acts_once(visit: Visit, site: Site) -> None:
    page = visit("lea")
    alert_id = take_next(page)
    form = page.locator("form", has=page.get_by_role("button", name="Start"))
    fields = {name: form.locator(f"input[name={name}]").input_value() for name in ("csrf", "version", "action_id")}
    for _ in range(2):
        answer = page.request.post(f"/cases/{alert_id}/start", form=fields, max_redirects=0)
        assert answer.status == 303
    assert actions(site, alert_id) == ["take", "start"]


def test_the_queue_changes_where_it_stands(visit: Visit) -> None:
    """Rows change in place; what would move them waits until the reader asks."""
    ann, lea = visit("ann"), visit("lea")
    lea.goto("/queue")
    expect(lea.locator("#live")).to_have_attribute("data-state", "live")
    alert_id = take_next(ann)
    row = lea.locator(f"#case-{alert_id}")
    expect(row).to_contain_text("Acknowledged")
    expect(row).to_contain_text("ann")
    expect(lea.locator("#fresh")).to_be_hidden()
    open_form(ann, "Close")
    ann.locator("#close-as").select_option("cured")
    ann.get_by_role("button", name="Close case").click()
    expect(row).to_have_class(re.compile("gone"))
    lea.keyboard.press("r")
    expect(row).to_have_count(0)


def test_a_page_that_hears_nothing_does_not_say_live(visit: Visit, site: Site) -> None:
    """The listener's connection is cut: pages say so, and are live again once they were read anew."""
    page = visit("ann")
    live = page.locator("#live")
    expect(live).to_have_attribute("data-state", "live")
    page.evaluate(
        "() => { window.seen = []; new MutationObserver(() => seen.push(document.getElementById('live').dataset.state))"
        ".observe(document.getElementById('live'), {attributes: true}); }"
    )
    site.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%%listener'")
    page.wait_for_function("() => seen.includes('lost')")
    expect(live).to_have_attribute("data-state", "live")


def test_rows_are_walked_by_keys(visit: Visit) -> None:
    page = visit("ann")
    rows = page.locator("#queue tbody tr")
    for key, place in (("j", 0), ("j", 1), ("k", 0), ("k", 0)):
        page.keyboard.press(key)
        expect(rows.nth(place)).to_have_attribute("aria-current", "true")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/cases/"))
    page.keyboard.press("?")
    expect(page.locator("dialog#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog#help")).to_be_hidden()


def test_keys_are_letters_where_somebody_types(visit: Visit) -> None:
    page = visit("ann")
    page.keyboard.press("/")
    page.keyboard.type("nun?")
    assert page.get_by_label("Borrower").input_value() == "nun?"
    assert page.url.endswith("/queue")


def test_all_works_without_script(visit: Visit, site: Site) -> None:
    page = visit("ann", java_script_enabled=False)
    page.get_by_role("button", name="Next case").click()
    alert_id = page.url.rpartition("/")[2]
    page.get_by_role("link", name="Work it out").click()
    expect(page.locator("[data-answer]")).to_contain_text("The score is")
    page.get_by_role("link", name="Back to the case").click()
    open_form(page, "Note")
    page.locator("#note-reason").fill("No script here")
    page.get_by_role("button", name="Save note").click()
    told(page, "Done: Note.")
    page.get_by_role("link", name="Keys").click()
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    assert actions(site, alert_id) == ["take", "note"]


def test_the_language_is_the_accounts(visit: Visit) -> None:
    page = visit("ann")
    page.locator(".account summary").click()
    page.locator("#language").select_option("de")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Arbeitsliste")
    assert page.locator("html").get_attribute("lang") == "de"
    take_next(page)
    expect(page.locator("#case-reasons li").first).to_contain_text("Log-Odds")


def test_a_wrong_password_is_told_and_the_name_kept(visit: Visit) -> None:
    page = visit(expect_errors=True)
    page.get_by_label("Name", exact=True).fill("ann")
    page.get_by_label("Password").fill("not this one")
    page.get_by_role("button", name="Sign in").click()
    told(page, "Name or password is wrong")
    assert page.get_by_label("Name", exact=True).input_value() == "ann"


def test_after_signing_out_nothing_is_shown(visit: Visit) -> None:
    page = visit("ann")
    page.locator(".account summary").click()
    page.get_by_role("button", name="Sign out").click()
    told(page, "You are signed out.")
    page.goto("/queue")
    page.wait_for_url("**/sign-in?next=%2Fqueue")
