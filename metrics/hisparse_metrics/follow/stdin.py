"""A pipe, or anything else with a descriptor that ends: read when there is something, to its end."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

from hisparse_metrics.follow.lines import DEFAULT_MAX_LINE_BYTES, Lines, LineSplitter
from hisparse_metrics.follow.source import Json, LineBatch, LineCounts, SourceStatus

_READ_BYTES = 1 << 18


class PipeSource:
    """Reads a descriptor without ever waiting for it, and without changing its flags: others may share it.

    A last line without a newline counts when the pipe ends, unless ``flush_at_end`` is off. ``tee`` gets all bytes
    as they come. There is no position: what went through a pipe is gone.
    """

    def __init__(
        self,
        name: str,
        fd: int = 0,
        *,
        flush_at_end: bool = True,
        tee: Callable[[bytes], object] | None = None,
        max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
        counts: LineCounts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.ended = False
        self.reason = ""
        self._fd = fd
        self._flush_at_end = flush_at_end
        self._tee = tee
        self._clock = clock
        self._splitter = LineSplitter(max_line_bytes, counts)
        self._bytes_read = 0
        self._last_read: float | None = None

    def poll(self, max_bytes: int) -> list[LineBatch]:
        """Return the lines completed by what is in the pipe now."""
        batches: list[LineBatch] = []
        while max_bytes > 0 and not self.ended:
            data = self._read(min(_READ_BYTES, max_bytes))
            if data is None:
                break
            max_bytes -= len(data)
            self._add(self._splitter.feed(data) if data else self._finish(), batches)
        return batches

    def status(self) -> SourceStatus:
        """Return the state as of the last poll; down once the pipe ended."""
        counts = self._splitter.counts
        return SourceStatus(not self.ended, self.reason, self._bytes_read, 0, self._last_read, counts)

    def position(self) -> Json:
        """Return nothing."""
        return {}

    def resume(self, position: Json) -> None:
        """Do nothing: a pipe continues where it is."""

    def close(self) -> None:
        """Do nothing: the descriptor is its owner's."""

    def _read(self, size: int) -> bytes | None:
        """Return what is there, ``b""`` at the end, ``None`` when there is nothing yet."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        try:
            if not poll.poll(0):
                return None
            data = os.read(self._fd, size)
        except BlockingIOError:
            return None
        except OSError as error:
            self.reason = error.strerror or str(error)
            return b""
        self._count(data)
        return data

    def _count(self, data: bytes) -> None:
        if data:
            self._bytes_read += len(data)
            self._last_read = self._clock()
        if self._tee:
            self._tee(data)

    def _finish(self) -> Lines:
        self.ended = True
        self.reason = self.reason or "ended"
        if self._flush_at_end:
            return self._splitter.finish()
        self._splitter.drop()
        return Lines([])

    def _add(self, lines: Lines, batches: list[LineBatch]) -> None:
        if lines.lines:
            batches.append(LineBatch(self.name, self.name, lines.lines, lines.cut))
