"""Reads a source at a steady pace from a thread of its own, so that a slow one never holds up the keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from hisparse_metrics.top.reading import ReadError, Reading, Source


class Poller:
    """Between :meth:`start` and :meth:`stop`, :attr:`outcomes` gets a reading, or what went wrong, for each read."""

    def __init__(self, source: Source, interval: float, wake: Callable[[], None]) -> None:
        self.outcomes: SimpleQueue[Reading | Exception] = SimpleQueue()
        self._source, self._interval, self._wake = source, interval, wake
        self._stop = threading.Event()
        # A daemon: a read that hangs must not keep the user from leaving.
        self._thread = threading.Thread(target=self._run, name="hisparse-top", daemon=True)

    def start(self) -> None:
        """Read now, and then once an interval."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no other read; does not wait for one that is under way."""
        self._stop.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            outcome = self._outcome()
            if self._stop.is_set():
                return
            self.outcomes.put(outcome)
            self._wake()
            due = max(due + self._interval, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _outcome(self) -> Reading | Exception:
        try:
            return self._source.read()
        except ReadError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a defect of ours: the main thread raises it
            return error
