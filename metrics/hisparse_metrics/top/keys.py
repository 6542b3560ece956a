"""Bytes from a terminal as keys. Pure; an escape sequence may arrive in pieces."""

from __future__ import annotations

from enum import Enum, auto


class Key(Enum):
    """What the user can ask for."""

    QUIT = auto()
    SORT = auto()
    PAUSE = auto()
    HELP = auto()
    BACK = auto()
    UP = auto()
    DOWN = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()
    FIRST = auto()
    LAST = auto()
    REDRAW = auto()


_ESCAPE = 0x1B
_KEYS = {
    b"q": Key.QUIT, b"Q": Key.QUIT, b"s": Key.SORT, b"p": Key.PAUSE, b" ": Key.PAUSE, b"?": Key.HELP, b"h": Key.HELP,
    b"k": Key.UP, b"j": Key.DOWN, b"g": Key.FIRST, b"G": Key.LAST, b"\x0c": Key.REDRAW,
    b"\x02": Key.PAGE_UP, b"\x06": Key.PAGE_DOWN,
}  # fmt: skip
_SEQUENCES = {
    b"A": Key.UP, b"B": Key.DOWN, b"H": Key.FIRST, b"F": Key.LAST,
    b"5~": Key.PAGE_UP, b"6~": Key.PAGE_DOWN, b"1~": Key.FIRST, b"7~": Key.FIRST, b"4~": Key.LAST, b"8~": Key.LAST,
}  # fmt: skip
"""What follows ``ESC [`` or ``ESC O``."""


class KeyDecoder:
    """Feed it what was read; :meth:`flush` when nothing follows, so that a lone Escape is a key."""

    def __init__(self) -> None:
        self._pending = b""

    @property
    def is_waiting(self) -> bool:
        """Whether the beginning of a sequence is there and its end is not."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[Key]:
        """Return the keys that are complete; unknown ones are dropped."""
        data, self._pending = self._pending + data, b""
        found: list[Key | None] = []
        while data:
            if data[0] != _ESCAPE:
                found.append(_KEYS.get(data[:1]))
                data = data[1:]
                continue
            length = _sequence_length(data)
            if length is None:
                self._pending = data
                break
            found.append(_SEQUENCES.get(data[2:length]) if length > 1 else Key.BACK)
            data = data[length:]
        return [key for key in found if key is not None]

    def flush(self) -> list[Key]:
        """Take what is pending as it is."""
        pending, self._pending = self._pending, b""
        return [Key.BACK] if pending == b"\x1b" else []


def _sequence_length(data: bytes) -> int | None:
    """Return how many bytes the escape at the beginning takes; ``None`` when its end is not there yet."""
    if len(data) == 1:
        return None
    if data[1] == _ESCAPE:
        return 1
    if data[1] not in b"[O":
        return 2
    ends = (index for index in range(2, len(data)) if 0x40 <= data[index] <= 0x7E)
    end = next(ends, None)
    return None if end is None else end + 1
