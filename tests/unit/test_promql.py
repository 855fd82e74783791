"""Names are found wherever PromQL has them, and what is not PromQL is refused."""

from __future__ import annotations

import pytest

from tests.promql import labels, metrics


def test_names_of_metrics_and_labels() -> None:
    expression = """
        histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{job=~"b.+", x!="y z"}[5m]))) > 5
        and on (job) count by (job) (c > 0) < 0.5 * count without (pod) (c offset 1h) unless time() - max(d) / scalar(e)
    """
    assert metrics(expression) == {"a_bucket", "c", "d", "e"}
    assert labels(expression) == {"job", "le", "x", "pod"}
    assert metrics("max_over_time(sum by (job) (f)[1h:1m])") == {"f"}
    assert metrics('absent(g{part="worker"})') == {"g"}
    assert labels("a * on (job) group_left (model) b") == {"job", "model"}


@pytest.mark.parametrize(
    "expression", ["sum(", "rate(a)", "a[5m] > 1", "a{b=c}", "sum by a (b)", "quantile(b)", "nosuch(a)", ""]
)
def test_what_prometheus_would_refuse_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        metrics(expression)
