"""The metrics are an engine's own figures, in the text that Prometheus reads."""

from __future__ import annotations

import urllib.request

from faust.types import TP
from prometheus_client.parser import text_string_to_metric_families

from stream.scoring.dead_letters import DeadLetters
from stream.settings import load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.worker.checkpoint import Checkpoints
from stream.worker.engine import Engine
from stream.worker.metrics import serve_metrics
from stream.worker.stages import STAGES


class Unused:
    """Stands where an engine that takes no poll needs next to nothing."""

    letters = DeadLetters()


def test_serves_counts_stages_lag_and_users() -> None:
    settings = load_settings()
    slab = Slab(blank_row(row_dtype(4), 1))
    slab.locate(0, [b"a", b"b"])
    unused = Unused()
    checkpoints = Checkpoints(
        unused,  # type: ignore[arg-type]
        slab,
        settings.topics.live_outputs("app"),
        settings.topics.inputs,
        interval_s=1.0,
        monotonic=lambda: 0.0,
        on_failure=lambda _: None,
    )
    engine = Engine(settings, unused, slab, checkpoints, unused, now_ms=lambda: 0)  # type: ignore[arg-type]
    engine.counts["scored"] = 7
    with engine.stages("score"):
        pass
    port = serve_metrics(engine, lambda: {TP("transactions", 2): 5}, "127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text = response.read().decode()
    samples = {
        (sample.name, *(sample.labels or {}).values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["foreshock_events_total", "scored"] == 7
    assert samples["foreshock_lag_records", "2", "transactions"] == 5
    assert samples["foreshock_users",] == 2
    assert samples["foreshock_stage_seconds_total", "score"] > 0
    assert {key[1] for key in samples if key[0] == "foreshock_stage_seconds_total"} == set(STAGES)
