"""One stream of log lines: envelope, prefix, fields, records. A parser keeps what is pending, and counts.

The stages: decode bytes; take envelopes off and put cut lines together; find markers; read prefix and fields; look
for events. Time is linear in the line's length and what is kept between lines is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable

from hisparse_metrics.sglang.envelopes import MAX_DEPTH, open_envelope, without_colours
from hisparse_metrics.sglang.events import find_event
from hisparse_metrics.sglang.own_log import read_own_json
from hisparse_metrics.sglang.partial import Part, PartialLines
from hisparse_metrics.sglang.records import Event, Record
from hisparse_metrics.sglang.scan import Scanner, has_marker


class LogParser:
    """Parses one stream. ``parsed``, ``ignored`` and ``malformed`` count the physical lines by outcome.

    ``pending`` is that of the parser whose work this one takes up.
    """

    def __init__(self, pending: Iterable[Part] = ()) -> None:
        self._partial = PartialLines(pending)
        self.lines = len(self._partial)
        self.parsed = 0
        self.malformed = 0
        self._scanner = Scanner()

    @property
    def ignored(self) -> int:
        """Lines that say nothing to us, and lines whose end is still to come."""
        return self.lines - self.parsed - self.malformed

    @property
    def has_pending(self) -> bool:
        """Whether the end of a line is still to come."""
        return len(self._partial) > 0

    @property
    def pending(self) -> list[Part]:
        """What has come of lines whose end is still to come."""
        return list(self._partial)

    def feed(self, line: str | bytes) -> list[Record | Event]:
        """Return what the next physical line completes. Its line end may be there or not. Never raises."""
        self.lines += 1
        text = line if isinstance(line, str) else line.decode("utf-8", "replace")
        return self._read(text.rstrip("\r\n"), "", MAX_DEPTH)

    def finish(self) -> list[Record | Event]:
        """End the stream. A line whose rest never came is no record, and is counted as malformed."""
        self.malformed += min(len(self._partial), self.ignored)
        self._partial = PartialLines()
        return []

    def _read(self, text: str, origin: str, depth: int) -> list[Record | Event]:
        """Take the outermost envelope off and go on with the line inside, or read a bare line."""
        if " batch" in text and (known := self._scanner.read_known(text)):
            self.parsed += 1
            return [Record(self.lines, known[0], known[1], origin)]
        text = without_colours(text)
        opened = open_envelope(text) if depth else None
        if opened is None:
            return self._read_bare(text, origin)
        if opened.origin:
            origin = f"{origin}/{opened.origin}" if origin else opened.origin
        if not opened.stream:
            return self._read(opened.text, origin, depth - 1)
        if opened.is_cut:
            self._partial.add((origin, opened.stream), opened.text)
            return []
        whole = self._partial.complete((origin, opened.stream), opened.text)
        if whole is None:
            self.malformed += 1
            return []
        return self._read(whole, origin, depth - 1)

    def _read_bare(self, text: str, origin: str) -> list[Record | Event]:
        if text.startswith("{") and (own := read_own_json(text)):
            self.parsed += 1
            return [Record(self.lines, own, 0, origin)]
        found: list[Record | Event] = []
        is_malformed = False
        if has_marker(text):
            records = list(self._scanner.read(text))
            found.extend(Record(self.lines, *record, origin) for record in records if record)
            is_malformed = not all(records)
        if not found and (event := find_event(text)):
            found.append(Event(self.lines, *event, origin))
        self.parsed += bool(found)
        self.malformed += is_malformed and not found
        return found
