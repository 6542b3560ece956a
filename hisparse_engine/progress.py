"""Progress for a person: shown on a terminal's standard error only, and only once something takes a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PATIENCE_SECONDS = 1.0

Report = Callable[[int, int], None]


@contextmanager
def progress_bar(title: str, unit: str = "", console: Console | None = None) -> Iterator[Report]:
    """Yield ``report(done, total)``; the bar appears after a second and goes away at the end."""
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(title, total=None)
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if time.monotonic() - began >= PATIENCE_SECONDS:
            bar.start()  # does nothing when it is already running

    try:
        yield report
    finally:
        bar.stop()
