"""Learning curves as TensorBoard logs. TensorBoard is imported only when logs were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.training.preparation import TrainingError

if TYPE_CHECKING:
    from model.training.trainer import EpochRecord


class TensorBoard:
    """Writes each epoch's figures to event files in `folder`. Raises `TrainingError` when TensorBoard is missing."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                f"{error}; --tensorboard needs TensorBoard: pip install -c constraints.txt '.[train]'"
            ) from None
        self._writer = SummaryWriter(str(folder))

    def add(self, history: list[EpochRecord]) -> None:
        """Log the newest of the records."""
        for name, value in history[-1].items():
            if value is not None:
                self._writer.add_scalar(name, value, len(history))
        self._writer.flush()
