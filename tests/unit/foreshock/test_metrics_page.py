"""The page names every metric and label, once. That it is current is in `test_reference_pages.py`."""

from __future__ import annotations

import re

from foreshock.metrics_page import metrics_page
from stream.telemetry.catalogue import LABELS, METRICS


def test_every_metric_has_a_section_and_every_label_a_row() -> None:
    page = metrics_page("")
    assert re.findall(r"^### `(\w+)`$", page, re.M) == list(METRICS)
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == list(LABELS)
    for metric in METRICS.values():
        section = " ".join(page.partition(f"### `{metric.name}`\n")[2].partition("\n### ")[0].split())
        assert all(text in section for text in (metric.meaning, metric.bad, metric.do, *metric.labels))
