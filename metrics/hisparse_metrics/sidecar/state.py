"""What all logs have said so far: lines in, views out. Knows no file, no thread and no Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from hisparse_metrics.sglang import LogParser, Part
from hisparse_metrics.sidecar.log_state import LogState
from hisparse_metrics.sidecar.skim import Verdicts
from hisparse_metrics.sidecar.stream import Stream
from hisparse_metrics.sidecar.views import LogView, view_of

MAX_LOGS = 1024
"""Logs remembered at once; beyond it the one that has been silent longest is forgotten."""


class Batch(Protocol):
    """Complete lines of one stream of one log, as :class:`hisparse_metrics.follow.source.LineBatch` has them."""

    @property
    def source(self) -> str:
        """The log's name."""

    @property
    def stream(self) -> str:
        """Changes when the lines do not continue those before."""

    @property
    def lines(self) -> list[bytes]:
        """The lines, in order."""

    @property
    def cut(self) -> tuple[int, ...]:
        """Indices of lines of which only the beginning is here."""


class SidecarState:
    """Per log: a parser and a :class:`LogState`. One thread feeds it; others see it through :meth:`views`."""

    def __init__(self) -> None:
        self.logs: dict[str, LogState] = {}
        self._streams: dict[str, Stream] = {}
        self._verdicts = Verdicts()

    def take(self, batch: Batch, time: float, *, continues: bool = False) -> None:
        """Take in a batch whose last line was written at ``time`` (Unix seconds).

        ``continues``: the stream's next batch comes at once; the state is true again after that one.
        """
        log, stream = self.log(batch.source), self._stream(batch, time)
        stream.take(batch.lines, batch.cut, log, time)
        if not continues:
            stream.settle(log, time)

    def end(self, source: str, time: float) -> None:
        """Take in what is pending of a log that has ended for good: the engine behind it is gone."""
        self._finish(source, time)
        self.log(source).ended = True

    def log(self, source: str) -> LogState:
        """Return a log's state; make room for it when it is new."""
        if source not in self.logs:
            if len(self.logs) >= MAX_LOGS:
                self._forget_one()
            self.logs[source] = LogState()
        return self.logs[source]

    def open_stream(self, source: str, name: str, pending: Iterable[Part] = ()) -> Stream:
        """Return a new stream of a log; ``pending`` is that of the same stream before a restart."""
        stream = self._streams[source] = Stream(name, LogParser(pending), self._verdicts)
        return stream

    def pending(self, source: str) -> tuple[str, list[Part]]:
        """Return the name of a log's stream, and the lines whose end is still to come."""
        stream = self._streams.get(source)
        return (stream.name, stream.parser.pending) if stream else ("", [])

    def views(self) -> tuple[LogView, ...]:
        """Return what is known now, as values that no longer change."""
        return tuple(view_of(name, log) for name, log in self.logs.items())

    def _stream(self, batch: Batch, time: float) -> Stream:
        stream = self._streams.get(batch.source)
        if stream is None or stream.name != batch.stream:
            self._finish(batch.source, time)
            stream = self.open_stream(batch.source, batch.stream)
        return stream

    def _finish(self, source: str, time: float) -> None:
        if stream := self._streams.pop(source, None):
            stream.finish(self.log(source), time)

    def _forget_one(self) -> None:
        quietest = min(self.logs, key=lambda name: self.logs[name].last_line or 0.0)
        del self.logs[quietest]
        self._streams.pop(quietest, None)
