"""Standard input as a source that never makes the writer wait for the parser: a thread drains it into memory.

With ``tee`` the bytes go on unchanged first, so the writer waits for the reader of the output as behind ``tee(1)``,
and for nobody else. When that reader is gone, draining goes on. When the parser is behind by more than ``limit``
bytes, what comes is passed on but not parsed, and counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from hisparse_metrics.follow.lines import Lines, LineSplitter
from hisparse_metrics.follow.source import Json, LineBatch, SourceStatus

LIMIT_BYTES = 16 << 20
_READ_BYTES = 1 << 16


class DrainedPipe:
    """A :class:`~hisparse_metrics.follow.source.Source` over a descriptor that ends. Has no position."""

    def __init__(
        self,
        name: str = "stdin",
        fd: int = 0,
        *,
        tee_fd: int | None = None,
        limit: int = LIMIT_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.closed = threading.Event()
        self._fd, self._tee_fd = fd, tee_fd
        self._limit = limit
        self._clock = clock
        self._splitter = LineSplitter()
        self._lock = threading.Lock()
        self._pending: list[bytes | None] = []
        self._num_pending = self._bytes_read = self._lost = 0
        self._last_read: float | None = None
        self._finished = False
        self._thread = threading.Thread(target=self._drain, name="hisparse-stdin", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the pipe has ended and every line of it has been handed out."""
        return self._finished

    def poll(self, max_bytes: int) -> list[LineBatch]:
        """Return the lines completed by what has come since; at the end also an unfinished last one."""
        is_last = self.closed.is_set()
        batches = [batch for piece in self._take() for batch in self._batch(self._feed(piece))]
        if is_last and not self._finished:
            self._finished = True
            batches += self._batch(self._splitter.finish())
        return batches

    def status(self) -> SourceStatus:
        """Return the state as of now; down once the pipe ended."""
        counts = self._splitter.counts
        with self._lock:
            counts.skipped_bytes += self._lost
            self._lost = 0
            lag = self._num_pending
        up = not self.closed.is_set()
        return SourceStatus(up, "" if up else "ended", self._bytes_read, lag, self._last_read, counts)

    def position(self) -> Json:
        """Return nothing: what went through a pipe is gone."""
        return {}

    def resume(self, position: Json) -> None:
        """Do nothing: a pipe continues where it is."""

    def close(self) -> None:
        """Do nothing: the descriptors are their owner's, and the thread ends with the pipe or the process."""

    def _take(self) -> list[bytes | None]:
        with self._lock:
            pending, self._pending, self._num_pending = self._pending, [], 0
        return pending

    def _feed(self, piece: bytes | None) -> Lines:
        if piece is None:  # Here bytes were lost: the line before has no end, the line after no beginning.
            self._splitter.drop()
            self._splitter.skip_line()
            return Lines([])
        return self._splitter.feed(piece)

    def _batch(self, lines: Lines) -> list[LineBatch]:
        return [LineBatch(self.name, self.name, lines.lines, lines.cut)] if lines.lines else []

    def _drain(self) -> None:
        try:
            while data := os.read(self._fd, _READ_BYTES):
                self._pass_on(data)
                self._keep(data)
        except OSError:
            pass  # As good as the end: nothing more will come.
        finally:
            self.closed.set()

    def _keep(self, data: bytes) -> None:
        with self._lock:
            self._bytes_read += len(data)
            self._last_read = self._clock()
            if self._num_pending + len(data) > self._limit:
                self._lost += len(data)
                if self._pending[-1:] != [None]:
                    self._pending.append(None)
                return
            self._pending.append(data)
            self._num_pending += len(data)

    def _pass_on(self, data: bytes) -> None:
        """Write all of it to the output; when the output's reader is gone, stop passing on."""
        view = memoryview(data)
        while view and self._tee_fd is not None:
            try:
                view = view[os.write(self._tee_fd, view) :]
            except OSError:
                self._tee_fd = None
