"""What all logs have said so far: lines in, views out. Knows no file, no thread and no Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from hisparse_metrics.sglang import Event, LogParser, Record
from hisparse_metrics.sidecar.log_state import LogState
from hisparse_metrics.sidecar.noise import Noise
from hisparse_metrics.sidecar.skim import Skimmer
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


class _Stream:
    """The parser of one stream, and what of its counts is already in the log's."""

    def __init__(self, name: str, parser: LogParser) -> None:
        self.name = name
        self.parser = parser
        self.skimmer = Skimmer()
        self.noise = Noise()
        self._counted = dict.fromkeys(("parsed", "ignored", "malformed"), 0)

    def read(self, line: bytes, log: LogState, time: float) -> None:
        """Take in what a line says, after the lines held back before it."""
        items = self.parser.feed(line)
        if items:
            self.read_held(log, time)
            take_all(log, items, time)
            self.skimmer.learn(line, items)
        else:
            self.noise.learn(line)

    def read_held(self, log: LogState, time: float) -> None:
        """Take in the newest line of each writer, and count those that it replaced like itself."""
        if not self.skimmer.held:
            return
        for held in self.skimmer.take_held():
            refused = log.refused_records
            take_all(log, self.parser.feed(held.line), time)
            log.refused_records += held.replaced * (log.refused_records - refused)
            log.unknown_fields += held.replaced_unknown_fields
            log.lines["parsed"] += held.replaced

    def count(self, log: LogState) -> None:
        """Add the lines parsed since the last call to the log's outcomes."""
        for outcome, before in self._counted.items():
            # A line whose end comes later is taken back from the ignored ones: a counter must not fall.
            self._counted[outcome] = max(before, getattr(self.parser, outcome))
            log.lines[outcome] += self._counted[outcome] - before


class SidecarState:
    """Per log: a parser and a :class:`LogState`. One thread feeds it; others see it through :meth:`views`."""

    def __init__(self, make_parser: Callable[[], LogParser] = LogParser) -> None:
        self.logs: dict[str, LogState] = {}
        self._make_parser = make_parser
        self._streams: dict[str, _Stream] = {}

    def take(self, batch: Batch, time: float) -> None:
        """Take in a batch whose last line was written at ``time`` (Unix seconds)."""
        log, stream = self.log(batch.source), self._stream(batch, time)
        cut = frozenset(batch.cut)
        for index, line in enumerate(batch.lines):
            if cut and index in cut:
                log.lines["malformed"] += 1
            elif b" batch" in line:
                if not stream.skimmer.hold(line):
                    stream.read(line, log, time)
            elif stream.noise.knows(line):
                log.lines["ignored"] += 1
            else:
                stream.read(line, log, time)
        stream.read_held(log, time)
        stream.count(log)
        log.settle(time)

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

    def views(self) -> tuple[LogView, ...]:
        """Return what is known now, as values that no longer change."""
        return tuple(view_of(name, log) for name, log in self.logs.items())

    def _stream(self, batch: Batch, time: float) -> _Stream:
        stream = self._streams.get(batch.source)
        if stream is None or stream.name != batch.stream:
            self._finish(batch.source, time)
            stream = self._streams[batch.source] = _Stream(batch.stream, self._make_parser())
        return stream

    def _finish(self, source: str, time: float) -> None:
        stream = self._streams.pop(source, None)
        if stream is None:
            return
        log = self.log(source)
        take_all(log, stream.parser.finish(), time)
        stream.count(log)

    def _forget_one(self) -> None:
        quietest = min(self.logs, key=lambda name: self.logs[name].last_line or 0.0)
        del self.logs[quietest]
        self._streams.pop(quietest, None)


def take_all(log: LogState, items: Iterable[Record | Event], time: float) -> None:
    """Take in several items of one moment."""
    for item in items:
        log.take(item, time)
