"""How far long work is: bars on a terminal; elsewhere, in the log of a scheduler for instance, a line now and then.

Knows nothing of what the work is. Needs `rich` alone, so that commands which serve may use it.
"""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

from rich.progress import Progress, ProgressColumn, Task, TaskID

LINE_EVERY_S = 30.0
"""Between two lines where no terminal shows bars. The first comes after as long: short work is quiet."""


class LongWork(Progress):
    """Progress bars that become lines, one each `line_every_s` of what moved last, where there is no terminal."""

    def __init__(self, *columns: str | ProgressColumn, line_every_s: float = LINE_EVERY_S, **options: Any) -> None:
        super().__init__(*columns, **options)
        self._line_every_s = line_every_s
        self._moved: TaskID | None = None
        self._ended = threading.Event()
        self._lines: threading.Thread | None = None

    def start(self) -> None:
        """Begin to show."""
        super().start()
        if not self.disable and not self.console.is_terminal and self._lines is None:
            self._ended.clear()
            self._lines = threading.Thread(target=self._tell, name="progress", daemon=True)
            self._lines.start()

    def stop(self) -> None:
        """End with a last state, of all tasks."""
        self._ended.set()
        if self._lines is not None:
            self._lines.join()
            self._lines = None
        super().stop()

    def add_task(self, description: str, *arguments: Any, **options: Any) -> TaskID:
        """As of the parent."""
        self._moved = super().add_task(description, *arguments, **options)
        return self._moved

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """As of the parent."""
        super().update(task_id, **changes)
        self._moved = task_id

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As of the parent."""
        super().advance(task_id, advance)
        self._moved = task_id

    def _tell(self) -> None:
        while not self._ended.wait(self._line_every_s):
            with self._lock:
                task = None if self._moved is None else self._tasks.get(self._moved)
                line = None if task is None else line_of(task)
            if line is not None:
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def line_of(task: Task) -> str:
    """For instance `epoch 3 of 20: 12 of 40 after 0:01:30`."""
    if task.total is None:
        reached = f" {task.completed:,.0f}" if task.completed else ""
    else:
        reached = f" {task.completed:,.0f} of {task.total:,.0f}"
    taken = dt.timedelta(seconds=round(task.elapsed or 0))
    return f"{task.description.strip()}:{reached} after {taken}"
