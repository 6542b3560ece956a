"""What every line source offers, and the values that it hands out. Knows no kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class LineBatch:
    """Complete lines, in order, without their newline, undecoded.

    ``source`` is the path, unit or name that they come from. ``stream`` changes when the bytes before them are not
    of the same writer's stream: another file, or the same file after truncation. ``cut`` holds the indices of lines
    that were longer than the limit: only their beginning is here, and its last value may be incomplete.
    """

    source: str
    stream: str
    lines: list[bytes]
    cut: tuple[int, ...] = ()


@dataclass(slots=True)
class LineCounts:
    """What happened to the lines of a source since it was made. Everything left out is counted here."""

    lines: int = 0
    cut_lines: int = 0
    skipped_bytes: int = 0
    dropped_partials: int = 0
    nul_bytes: int = 0
    truncations: int = 0


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """Whether a source can be read, and how far behind it is.

    ``reason`` is empty when ``up``. ``last_read`` is the clock's time at which bytes last came, ``None`` before
    the first. ``lag_bytes`` is what is known to be there and not read yet.
    """

    up: bool
    reason: str
    bytes_read: int
    lag_bytes: int
    last_read: float | None
    counts: LineCounts = field(default_factory=LineCounts)


class Source(Protocol):
    """Gives lines when asked; never blocks, never raises for a source that is missing or broken."""

    @property
    def name(self) -> str:
        """The name under which positions are remembered: unique among the sources of a state file."""

    def poll(self, max_bytes: int) -> list[LineBatch]:
        """Return the lines completed by reading at most ``max_bytes`` more."""

    def status(self) -> SourceStatus:
        """Return the state as of the last poll."""

    def position(self) -> Json:
        """Return how to continue behind the last line handed out; :meth:`resume` takes it."""

    def resume(self, position: Json) -> None:
        """Continue at a remembered position. Called before the first poll, or not at all."""

    def close(self) -> None:
        """Release files and processes."""
