"""Backlog at speed: decode lines that a later one of the same rank replaces are checked and counted, not read.

A decode record only sets levels, so of many in one batch the last one of each rank is all that matters. Whether a line
is whole is told by a pattern made from a line that the parser has read: the same text with other numbers in the same
form (a decimal has as many places), so the parser would read it as well. Ranks are no numbers here: they tell the
writer. Only bare lines are skimmed; in an envelope, and in every other form, lines are read one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hisparse_metrics.sglang import Event, Record

_MAX_FORMS = 4
_MAX_ATTEMPTS = 64
_MAX_LINE_BYTES = 2048
_HEAD = rb"\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9}+)?+((?: [A-Z_]{1,64}P[0-9]{1,9}+)*+)\] "
_LEARNT = re.compile(_HEAD + rb"(Decode batch(?: \[[0-9]{1,18}\])?[.,] .+)")
_CHANGING = re.compile(rb"([0-9]+(?:\.[0-9]+)?|True|False)")


@dataclass(slots=True)
class Held:
    """The newest line of a writer that was skimmed, and what it replaced."""

    line: bytes
    unknown_fields: int
    replaced: int = 0
    replaced_unknown_fields: int = 0


class Skimmer:
    """Holds back the newest skimmed line of each writer until somebody needs to know it."""

    def __init__(self) -> None:
        self.held: dict[bytes, Held] = {}
        """By ranks as printed, the newest last: two of them may be one rank."""
        self._forms: list[tuple[re.Pattern[bytes], int]] = []
        self._attempts = 0

    def hold(self, line: bytes) -> bool:
        """Hold ``line`` back if it is a whole decode line of a known form."""
        for pattern, unknown_fields in self._forms:
            if found := pattern.fullmatch(line):
                self._hold(found[1], line, unknown_fields)
                return True
        return False

    def take_held(self) -> Iterable[Held]:
        """Return the newest line of each writer, in order, and hold none any more."""
        held, self.held = self.held, {}
        return held.values()

    def _hold(self, writer: bytes, line: bytes, unknown_fields: int) -> None:
        held = self.held.pop(writer, None)
        if held is None:
            held = Held(line, unknown_fields)
        else:
            held.replaced += 1
            held.replaced_unknown_fields += held.unknown_fields
            held.line, held.unknown_fields = line, unknown_fields
        self.held[writer] = held

    def learn(self, line: bytes, items: list[Record | Event]) -> None:
        """Learn the form of a line that was read as one decode record and nothing else."""
        record = _decode_record(items)
        if record is None or len(self._forms) >= _MAX_FORMS or self._attempts >= _MAX_ATTEMPTS:
            return
        self._attempts += 1
        found = _LEARNT.fullmatch(line) if line.isascii() and len(line) <= _MAX_LINE_BYTES else None
        if found:
            pattern = re.compile(_HEAD + b"".join(map(_form, _CHANGING.split(found[2]))))
            self._forms.append((pattern, record.unknown_fields))


def _decode_record(items: list[Record | Event]) -> Record | None:
    item = items[0] if len(items) == 1 else None
    return item if isinstance(item, Record) and item.values.get("phase") == "decode" else None


def _form(text: bytes) -> bytes:
    """Return the pattern of a piece of a line: numbers of the same form, either truth, or the text itself."""
    if text in (b"True", b"False"):
        return b"(?:True|False)"
    whole, point, places = text.partition(b".")
    if not whole.isdigit():
        return re.escape(text)
    return rb"[0-9]{1,18}+" + (rb"\.[0-9]{%d}" % len(places) if point else b"")
