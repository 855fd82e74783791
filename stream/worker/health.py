"""What a worker says of itself to `stream.telemetry.health`. Reads plain figures, from any thread."""

from __future__ import annotations

from stream.logs import told
from stream.telemetry.health import Standing
from stream.worker.app import WorkerApp


def standing_of(worker: WorkerApp) -> Standing:
    """Whether a worker has work, commits it, and has its partitions with their states.

    A worker without a partition is ready: there are more workers than partitions, and it stands by.
    """
    unready = worker.restoration.unready
    excuse = unready
    if worker.app.rebalancing:
        excuse = unready = "the group shares out its partitions anew"
    if (unreachable_s := worker.unreachable_s) > 0:
        excuse = f"no broker has answered for {unreachable_s:.0f} s"
        unready = unready or excuse
    error = worker.failure.error
    return Standing(
        commits=worker.engine.stages.commits.count,
        polls=worker.engine.figures.polls,
        partitions=len(worker.restoration.owned or ()),
        work=worker.checkpoints.pending or worker.due() > 0,
        excuse=excuse,
        unready=unready,
        ends=None if error is None else told(error),
    )
