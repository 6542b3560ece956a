"""One stream of log lines: envelope, prefix, fields, records. A parser keeps what is pending, and counts."""

from __future__ import annotations

from hisparse_metrics.sglang.records import Event, Record


class LogParser:
    """Parses one stream. ``parsed``, ``ignored`` and ``malformed`` count the physical lines by outcome."""

    def __init__(self) -> None:
        self.lines = 0
        self.parsed = 0
        self.ignored = 0
        self.malformed = 0

    def feed(self, line: str | bytes) -> list[Record | Event]:
        """Return what the next physical line completes. Its line end may be there or not. Never raises."""
        self.lines += 1
        self.ignored += 1
        return []

    def finish(self) -> list[Record | Event]:
        """Return what is pending at the end of the stream. What was cut stays unsaid."""
        return []
