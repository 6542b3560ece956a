"""Where records are in a line: each marker with the text before it and the text that belongs to it.

A line may hold progress bars and other people's fragments before the prefix, two records, or a record with another
message's start spliced behind it. Every part of the line is looked at a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hisparse_metrics.sglang.dialects import MAX_BODY, PHASES, MalformedError, Phase, read_body
from hisparse_metrics.sglang.own_log import read_own_body
from hisparse_metrics.sglang.prefix import MAX_PREFIX, Prefix, read_prefix
from hisparse_metrics.sglang.records import Value
from hisparse_metrics.sglang.shapes import Shapes, learn

MAX_RECORDS = 256
_MARKER = re.compile(r"(Decode|Prefill) batch(?: \[[0-9]{1,18}\])?([.,]) ", re.ASCII)
_FOREIGN = re.compile(
    r"\r|\[(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[ T])?[0-9]{2}:[0-9]{2}:[0-9]{2}| \[repeated |\[[0-9;]{1,8}m",
    re.ASCII,
)
"""What ends a record within a line: a return, a next message, Ray's note, a colour whose escape was lost."""


class Found(NamedTuple):
    """One record of a line."""

    values: dict[str, Value]
    unknown_fields: int


def has_marker(text: str) -> bool:
    """Tell cheaply whether a record may be in ``text``."""
    return " batch" in text and ("Decode batch" in text or "Prefill batch" in text)


class Scanner:
    """Finds the records of lines, and remembers the shapes of lines that hold one record and nothing else."""

    def __init__(self) -> None:
        self._shapes = Shapes()
        self.read_known = self._shapes.read

    def read(self, text: str) -> Iterator[Found | None]:
        """Yield each record of ``text`` in order; ``None`` for a marker whose record is not whole.

        Behind :data:`MAX_RECORDS` markers a line is not looked at any more.
        """
        if values := self._shapes.read(text):
            yield Found(values, 0)
            return
        marker, prefix = _next(text, 0)
        for _ in range(MAX_RECORDS):
            if marker is None:
                return
            begin = marker.end()
            following, its_prefix = _next(text, begin)
            end = min(its_prefix.start, begin + MAX_BODY + 1)
            yield self._read_record(text, marker, prefix, text[begin:end])
            marker, prefix = following, its_prefix

    def _read_record(self, line: str, marker: re.Match[str], prefix: Prefix, text: str) -> Found | None:
        """Read one record; ``text`` is what follows its marker, one character too much when that is too long."""
        phase = PHASES[marker[1]]
        foreign = _FOREIGN.search(text)
        text = text[: foreign.start()] if foreign else text
        try:
            body = read_body(phase, marker[2], text)
        except MalformedError:
            own = read_own_body(text) if phase.name == "decode" else None
            return Found(own | prefix.values, 0) if own else None
        values = body.values | prefix.values
        if not (foreign or body.unknown_fields or self._shapes.is_full):
            self._learn(line, marker[0], phase, body.names, values)
        return Found(values, body.unknown_fields)

    def _learn(
        self, line: str, marker: str, phase: Phase, names: tuple[str, ...], values: dict[str, Value]
    ) -> None:
        shape = learn(line, marker, [(name, phase.fields[name]) for name in names], values, self._shapes.memo)
        if shape:
            self._shapes.add(shape)


def _next(text: str, begin: int) -> tuple[re.Match[str] | None, Prefix]:
    """Return the next marker and the prefix between ``begin`` and it, whose ``start`` is a place in ``text``."""
    marker = _MARKER.search(text, begin)
    if marker is None:
        return None, Prefix({}, len(text))
    begin = max(begin, marker.start() - MAX_PREFIX)
    begin = max(begin, text.rfind("\r", begin, marker.start()) + 1)
    prefix = read_prefix(text[begin : marker.start()])
    return marker, prefix._replace(start=begin + prefix.start)
