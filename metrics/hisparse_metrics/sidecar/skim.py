"""Backlog at speed: a line that differs from one read before only in its digits is counted, and need not be read.

The grammar never looks at which digit: lines that are the same with every digit written as 0 come to the same, but for
their numbers. So a line that is like one that said nothing says nothing, and one that is like a decode record is one.
A decode record only sets levels, so of many in one batch the last one of each writer is all that matters.

In JSON digits can spell letters, and ranks are no numbers here: they tell the writer. So lines with a brace are told
only where they are bare or Docker's plainest, and decode lines where nothing but the ranks in their prefix tells who
wrote them: bare ones, and such in Kubernetes' or Docker's envelope.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from hisparse_metrics.sglang import Event, Record

MAX_KNOWN_BYTES = 1 << 21
_MAX_LINE_BYTES = 2048
_OVERHEAD_BYTES = 128
_WITH_ZEROS = bytes.maketrans(b"0123456789", b"0" * 10)
_BARE = re.compile(rb"\[[0-9]| ")
_CRI = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}(?:Z|[+-][0-9:]{4,6}) std(?:out|err) F "
_DOCKER = re.compile(
    rb'\{"log":"((?:[^"\\]|\\["\\/bfnrt])*)\\n","stream":"std(?:out|err)","time":"[^"\\]*"\}', re.DOTALL
)
_DECODE = re.compile(
    rb"(?:" + _CRI + rb")?(\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    rb"((?: [A-Z_]{1,64}P[0-9]{1,9})*)\] Decode batch.+)"
)


@dataclass(frozen=True, slots=True, eq=False)
class Decode:
    """The verdict on a decode line. ``inside``: the bare line in it; ``writer``: its ranks as printed."""

    inside: slice
    writer: slice
    unknown_fields: int


NOTHING: Final = False
"""The verdict on a line that says nothing. It alone is false, so that loops in C can pass over such lines."""
READ: Final = True
"""The verdict on every other line: only reading it tells."""
Verdict = Decode | bool


class Verdicts:
    """What lines came to, by their text with zeros. Bounded; the same for every log."""

    def __init__(self) -> None:
        self._known: dict[bytes, Verdict] = {}
        self.num_bytes = 0

    def of(self, lines: Sequence[bytes]) -> list[Verdict]:
        """Return the verdict on each line. The loop runs in C."""
        return list(map(self._known.get, map(bytes.translate, lines, repeat(_WITH_ZEROS)), repeat(READ)))

    def learn(self, line: bytes, items: Sequence[Record | Event]) -> None:
        """Remember what a whole and well-formed line came to, if that tells what others come to."""
        if len(line) > _MAX_LINE_BYTES:
            return
        text = line.translate(_WITH_ZEROS)
        verdict = _verdict_on_decode(line, items) if items else NOTHING if _is_plain(line) else READ
        if verdict is READ or text in self._known:
            return
        size = len(text) + _OVERHEAD_BYTES
        if self.num_bytes + size > MAX_KNOWN_BYTES:
            self._known.clear()  # The few that are frequent are soon back.
            self.num_bytes = 0
        self.num_bytes += size
        self._known[text] = verdict


def _is_plain(line: bytes) -> bool:
    """Tell whether no digit of ``line`` can matter."""
    return b"{" not in line or bool(_BARE.match(line) or _DOCKER.fullmatch(line))


def _verdict_on_decode(line: bytes, items: Sequence[Record | Event]) -> Verdict:
    item = items[0] if len(items) == 1 else None
    if not isinstance(item, Record) or item.values.get("phase") != "decode":
        return READ
    docker = _DOCKER.fullmatch(line)
    begin, end = docker.span(1) if docker else (0, len(line))
    found = _DECODE.fullmatch(line, begin, end)
    if found is None or (docker and b"\\" in found[1]):
        return READ
    return Decode(slice(*found.span(1)), slice(*found.span(2)), item.unknown_fields)
