"""Lines that a collector cut at 16 KiB: put together again, with a cap on what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_BYTES = 1 << 18
MAX_STREAMS = 64


class Part(NamedTuple):
    """What has come of a line so far; no ``text`` when it has been given up."""

    origin: str
    stream: str
    text: str | None


class PartialLines:
    """What is pending of each stream. A line longer than the cap is given up as a whole: half would mislead."""

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._pending: dict[tuple[str, str], list[str] | None] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        for origin, stream, text in parts:
            self.add((origin, stream), text or "")
            if text is None:
                self._pending[origin, stream] = None

    def __iter__(self) -> Iterator[Part]:
        for (origin, stream), parts in self._pending.items():
            yield Part(origin, stream, None if parts is None else "".join(parts))

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, stream: tuple[str, str], text: str) -> None:
        """Keep a part whose rest will follow."""
        if stream not in self._pending and len(self._pending) >= MAX_STREAMS:
            self._drop(next(iter(self._pending)))
        size = self._sizes[stream] = self._sizes.get(stream, 0) + len(text)
        parts = self._pending.setdefault(stream, [])
        if size > MAX_BYTES:
            self._pending[stream] = None
        elif parts is not None and text:
            parts.append(text)

    def complete(self, stream: tuple[str, str], text: str) -> str | None:
        """Return the whole line that ends with ``text``; ``None`` when it was too long."""
        if stream not in self._pending:
            return text
        parts, size = self._pending[stream], self._sizes[stream]
        self._drop(stream)
        if parts is None or size + len(text) > MAX_BYTES:
            return None
        return "".join([*parts, text])

    def _drop(self, stream: tuple[str, str]) -> None:
        del self._pending[stream], self._sizes[stream]
