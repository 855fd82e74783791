"""The page shows every figure of a report, known or not, stands alone, and cannot be broken by what a report holds."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from reports.drift import DriftReport
from reports.drift_page import page

VOID = ("meta", "line", "rect", "circle", "polyline", "br")


class Content(HTMLParser):
    """Tags that are open, all addresses, and the text of a page; whether a tag closes the one that is open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def test_the_page_stands_alone(drift_report: DriftReport) -> None:
    content = page(drift_report)
    found = Content(content)
    assert found.open == []
    assert found.addresses == []
    assert not re.search(r"<script|@import|url\(|https?://(?!www\.w3\.org/2000/svg)", content)
    assert content.count("<svg") == 2 + 1 + 3


def test_names_cannot_break_the_page(drift_report: DriftReport, nasty: str) -> None:
    content = page(drift_report)
    assert "<script>" not in content
    assert "alert(&#34;x&#34;)" in content
    assert Content(content).text.count(nasty) >= 5, "title, heading, source, reference, variable"


def test_every_figure_is_there(drift_report: DriftReport) -> None:
    text = Content(page(drift_report)).text
    for figure in (
        "1 of 3 variables shifted; calibration has moved.",
        "41.2 alerts per 1,000 users",
        "threshold was set for 40.",
        "from 2024-01-31 00:00 to 2024-03-01 00:00 UTC",
        "below the critical value in 95 % of comparisons",
        "0.3100",
        "0.000",
        "too few",
        "80 defaults followed 4,000 scores of 1,200 users; 40.0 were expected (ratio 2.00, z +6.20, p 0.000).",
        "0–5 %",
        "1.50–2.70 %",
        "0.810 (0.740–0.870)",
        "0.500",
        "2023-11",
    ):
        assert figure in text, figure
    assert "nan" not in text.lower()


def test_what_is_bad_is_marked(drift_report: DriftReport) -> None:
    content = page(drift_report)
    assert re.findall(r'class="(?:number )?bad">([^<]+)<', content) == [
        "1 of 3 variables shifted; calibration has moved.",
        "large",
        "no",
    ]


def test_a_report_of_nothing_is_a_page_too(drift_report: DriftReport) -> None:
    calibration = replace(drift_report.calibration, p_value=None, z=None, bands=())
    content = page(
        replace(
            drift_report, stability=[], shapes={}, calibration=calibration, performance=[], alert_rate=None, alpha=0.01
        )
    )
    text = Content(content).text
    assert "No variable shifted; no matured score to judge calibration by." in text
    assert "No score is 90 days old yet" in text
    assert "No month has matured." in text
    assert "alerts per 1,000" not in text
    assert "below the critical value in 99 % of comparisons" in text
    assert '="bad"' not in content
