"""Where records are in a line: each marker with the text before it and the text that belongs to it.

A line may hold progress bars and other people's fragments before the prefix, two records, or a record with another
message's start spliced behind it. Every part of the line is looked at a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hisparse_metrics.sglang.dialects import MAX_BODY, PHASES, MalformedError, read_body
from hisparse_metrics.sglang.learning import Source
from hisparse_metrics.sglang.own_log import read_own_body
from hisparse_metrics.sglang.prefix import MAX_PREFIX, Prefix, read_prefix
from hisparse_metrics.sglang.shape import Known
from hisparse_metrics.sglang.shapes import Shapes

MAX_RECORDS = 256
_MARKER = re.compile(r"(Decode|Prefill) batch(?: \[[0-9]{1,18}\])?([.,]) ", re.ASCII)
_FOREIGN = re.compile(
    r"\r|\[(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[ T])?[0-9]{2}:[0-9]{2}:[0-9]{2}| \[repeated |\[[0-9;]{1,8}m",
    re.ASCII,
)
"""What ends a record within a line: a return, a next message, Ray's note, a colour whose escape was lost."""


def has_marker(text: str) -> bool:
    """Tell cheaply whether a record may be in ``text``."""
    return " batch" in text and ("Decode batch" in text or "Prefill batch" in text)


class Scanner:
    """Finds the records of lines, and remembers the shapes of lines that hold one record and nothing else."""

    def __init__(self) -> None:
        self._shapes = Shapes()
        self.read_known = self._shapes.read

    def read(self, text: str) -> Iterator[Known | None]:
        """Yield each record of ``text`` in order; ``None`` for a marker whose record is not whole.

        Behind :data:`MAX_RECORDS` markers a line is not looked at any more.
        """
        marker, prefix = _next(text, 0)
        for _ in range(MAX_RECORDS):
            if marker is None:
                return
            begin = marker.end()
            following, its_prefix = _next(text, begin)
            end = min(its_prefix.start, begin + MAX_BODY + 1)
            known, names = _read_record(marker, prefix, text[begin:end])
            if known and names and len(text) <= MAX_PREFIX + MAX_BODY:
                source = Source(
                    text[: marker.start()], marker[0], text[begin:], PHASES[marker[1]].fields, names
                )
                self._shapes.learn(source, known)
            yield known
            marker, prefix = following, its_prefix


def _read_record(marker: re.Match[str], prefix: Prefix, text: str) -> tuple[Known | None, tuple[str, ...]]:
    """Read one record and its fields' names; ``text`` follows its marker, one character too much when too long."""
    phase = PHASES[marker[1]]
    foreign = _FOREIGN.search(text)
    text = text[: foreign.start()] if foreign else text
    try:
        body = read_body(phase, marker[2], text)
    except MalformedError:
        own = read_own_body(text) if phase.name == "decode" else None
        return ((own | prefix.values, 0), ()) if own else (None, ())
    return (body.values | prefix.values, body.unknown_fields), body.names


def _next(text: str, begin: int) -> tuple[re.Match[str] | None, Prefix]:
    """Return the next marker and the prefix between ``begin`` and it, whose ``start`` is a place in ``text``."""
    marker = _MARKER.search(text, begin)
    if marker is None:
        return None, Prefix({}, len(text))
    begin = max(begin, marker.start() - MAX_PREFIX)
    begin = max(begin, text.rfind("\r", begin, marker.start()) + 1)
    prefix = read_prefix(text[begin : marker.start()])
    return marker, prefix._replace(start=begin + prefix.start)
