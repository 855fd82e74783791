"""docs/metrics.md: every metric with its meaning, what a bad value says and what to do, from the catalogue."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from stream.telemetry.catalogue import GROUPS, LABELS
from stream.telemetry.metric import Metric

WIDTH = 118

HEAD = """\
What the parts tell Prometheus, and what a bad value means. The metrics of a worker, a sink, who delivers webhooks and a
desk are at `/metrics` of its `metrics_port`, beside `/livez` and `/readyz`; those of drift are in the file that
`foreshock drift --metrics` writes for node-exporter. Beside them stand `process_*`, which Prometheus' client has of
every process: memory, processor time, open files.

Alert rules on these metrics and two dashboards are in `deploy/`; [deploy.md](deploy.md) says how to use them, and
[runbook.md](runbook.md) what to do when one fires.

A counter counts since the start of its process: use `rate()` or `increase()`. Of a histogram, `NAME_bucket` counts the
values up to its label `le`, `NAME_count` all of them, and `NAME_sum` is their sum. Times are in seconds.
"""


def metrics_page(note: str) -> str:
    """The page; `note` says that it is generated."""
    lines = ["# Metrics\n", note, HEAD]
    for group, metrics in GROUPS.items():
        lines.append(f"## {group}\n")
        for metric in metrics:
            lines += _section(metric)
    lines += ["## Labels\n", "| label | holds |", "| --- | --- |"]
    lines += [f"| `{label}` | {meaning} |" for label, meaning in LABELS.items()]
    return "\n".join(lines) + "\n"


def _section(metric: Metric) -> Iterator[str]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    by = f", by {labels}" if labels else ""
    yield f"### `{metric.name}`\n"
    yield (
        _wrapped(f"{metric.kind.capitalize()} of {' and '.join(metric.sources)}, {metric.unit}{by}. {metric.meaning}")
        + "\n"
    )
    if metric.bounds:
        yield _item(f"Buckets: {', '.join(f'{bound:g}' for bound in metric.bounds)}.")
    yield _item(f"Bad: {metric.bad}")
    yield _item(f"Do: {metric.do}") + "\n"


def _item(text: str) -> str:
    return _wrapped(f"- {text}", "  ")


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
