"""Server-sent events: the data of each event out of bytes that come in any pieces (HTML standard, section 9.2)."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventParser:
    """Feed it bytes; it returns the data of the events that they complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of every event that ``piece`` completes. Comments and other fields have none."""
        text = self._rest + piece
        held = b"\r" if text.endswith(b"\r") else b""  # a line feed may belong to it
        *lines, self._rest = _LINE_END.split(text.removesuffix(b"\r"))
        self._rest += held
        return [data for line in lines if (data := self._line(line)) is not None]

    def _line(self, line: bytes) -> bytes | None:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return None
        data, self._data = self._data, []
        return b"\n".join(data) if data else None
