"""What happened lately to every rank, in a fixed amount of memory. Times are those of a clock that never jumps.

All ranks are sampled together, so a tier has one axis of times and every rank has a row for each of them. The first
:data:`MAX_RANKS` ranks have a history of their own; of the others only their part in :data:`ALL` is kept.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from hisparse_metrics.live.columns import WIDTH
from hisparse_metrics.live.ring import Ring
from hisparse_metrics.live.track import COARSE, FINE, NO_ROW, Tier, Track

ALL = "all"
"""The name of all ranks together."""
MAX_RANKS = 32
MAX_EVENTS = 256
REASSIGN_AFTER_SECONDS = 60.0
"""A rank that has been gone for so long gives its place to one that has none."""


class Event(NamedTuple):
    """Something that happened to a rank at a moment."""

    number: int
    time: float
    kind: str
    rank: str


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of one rank from number ``first`` on, columns in order. ``low`` and ``high`` are empty for fine rows.

    The last coarse row may be unfinished; it keeps its number until it is finished.
    """

    first: int
    closed: int
    times: array[float]
    values: list[array[float]]
    low: list[array[float]] = field(default_factory=list)
    high: list[array[float]] = field(default_factory=list)


class _Axis:
    """The times of one tier's rows, and how many there have been."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.times = Ring(tier.capacity, 1, precise=True)
        self.count = 0

    @property
    def oldest(self) -> int:
        return max(0, self.count - self.tier.capacity)

    def append(self, time: float) -> int:
        self.times.put(self.count, (time,))
        self.count += 1
        return self.count - 1

    def first_after(self, time: float) -> int:
        times = self.times.column(0, self.oldest, self.count)
        return self.oldest + bisect_left(times, time)


class History:
    """One thread appends; any number of others read."""

    def __init__(self, max_ranks: int = MAX_RANKS) -> None:
        self._max_ranks = max_ranks
        self._fine = _Axis(FINE)
        self._coarse = tuple(_Axis(tier) for tier in COARSE)
        self._tracks: dict[str, Track] = {ALL: Track()}
        self._last_seen: dict[str, float] = {}
        self._last_time = -float("inf")
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._num_events = 0
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """Memory of all rows: grows with each of the first ranks, and not with time."""
        axes = (self._fine, *self._coarse)
        return sum(t.num_bytes for t in self._tracks.values()) + sum(a.times.num_bytes for a in axes)

    @property
    def num_events(self) -> int:
        """How many events there have been; the next one's number."""
        return self._num_events

    def is_recorded(self, rank: str) -> bool:
        """Tell whether a rank has a history of its own."""
        return rank in self._tracks

    def append(self, time: float, rows: Mapping[str, Sequence[float]]) -> None:
        """Add the rows of one moment, by rank; a rank without one has a gap there."""
        with self._lock:
            self._close_before(time)
            self._give_places(time, rows)
            number = self._fine.append(time)
            for rank, track in self._tracks.items():
                track.add(number, rows.get(rank, NO_ROW))
            self._last_time = time

    def gap(self) -> None:
        """Say that nothing is known between the row before and the next: no line may join them."""
        with self._lock:
            if self._fine.count == 0:
                return
            for level in range(len(COARSE)):
                self._close(level)
            for axis in (self._fine, *self._coarse):
                number = axis.append(self._last_time)
                for track in self._tracks.values():
                    _put_nothing(track, axis.tier, number)

    def note(self, time: float, kind: str, rank: str) -> None:
        """Remember an event."""
        with self._lock:
            self._events.append(Event(self._num_events, time, kind, rank))
            self._num_events += 1

    def events(self, since_number: int, after: float) -> list[Event]:
        """Return the events from a number on that are not older than ``after``."""
        with self._lock:
            return [e for e in self._events if e.number >= since_number and e.time >= after]

    def read(self, rank: str, tier: Tier, after: float, since: int | None = None) -> Slice:
        """Return the rows of ``rank`` not older than ``after``; only those from ``since`` on if they are all there.

        A rank without a history has no rows.
        """
        with self._lock:
            axis = self._axis(tier)
            first = axis.first_after(after)
            if since is not None and axis.oldest <= since <= axis.count:
                first = max(first, since)
            track = self._tracks.get(rank)
            if track is None:
                return Slice(axis.count, axis.count, array("d"), [array("f") for _ in range(WIDTH)])
            return self._slice(track, axis, first)

    def _slice(self, track: Track, axis: _Axis, first: int) -> Slice:
        times = axis.times.column(0, first, axis.count)
        if axis is self._fine:
            return Slice(first, axis.count, times, _columns(track.fine, first, axis.count))
        level = self._coarse.index(axis)
        rows = track.coarse[level]
        rings = (rows.average, rows.low, rows.high)
        average, low, high = (_columns(ring, first, axis.count) for ring in rings)
        if self._is_open(level):
            fold = track.unfinished(level)
            times.append(self._last_time)
            for columns, row in ((average, fold.average), (low, fold.low), (high, fold.high)):
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
        return Slice(first, axis.count, times, average, low, high)

    def _axis(self, tier: Tier) -> _Axis:
        return next(axis for axis in (self._fine, *self._coarse) if axis.tier == tier)

    def _is_open(self, level: int) -> bool:
        """Tell whether a coarse row has begun: some fine row is newer than the last coarse one."""
        axis = self._coarse[level]
        if axis.count == 0:
            return self._fine.count > 0
        [closed] = axis.times.column(0, axis.count - 1, axis.count)
        return self._last_time > closed

    def _close_before(self, time: float) -> None:
        for level, tier in enumerate(COARSE):
            if time // tier.seconds != self._last_time // tier.seconds:
                self._close(level)

    def _close(self, level: int) -> None:
        if not self._is_open(level):
            return
        number = self._coarse[level].append(self._last_time)
        for track in self._tracks.values():
            track.close(level, number)

    def _give_places(self, time: float, rows: Mapping[str, Sequence[float]]) -> None:
        for rank in rows:
            if rank not in self._tracks and self._make_room(time):
                self._tracks[rank] = Track()
            self._last_seen[rank] = time
        self._last_seen = {rank: seen for rank, seen in self._last_seen.items() if rank in self._tracks}

    def _make_room(self, time: float) -> bool:
        if len(self._tracks) <= self._max_ranks:
            return True
        gone = min(
            (r for r in self._tracks if r != ALL), key=lambda r: self._last_seen.get(r, 0.0), default=None
        )
        if gone is None or time - self._last_seen.get(gone, 0.0) < REASSIGN_AFTER_SECONDS:
            return False
        del self._tracks[gone]
        return True


def _columns(ring: Ring, first: int, end: int) -> list[array[float]]:
    return [ring.column(index, first, end) for index in range(WIDTH)]


def _put_nothing(track: Track, tier: Tier, number: int) -> None:
    if tier == FINE:
        return track.fine.put(number, NO_ROW)
    rows = track.coarse[COARSE.index(tier)]
    for ring in (rows.low, rows.average, rows.high):
        ring.put(number, NO_ROW)
    return None
