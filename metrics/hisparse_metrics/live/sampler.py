"""The thread that keeps the history up to date, and what it saw last. Owns the clocks; knows no HTTP."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hisparse_metrics.live.history import ALL, History
from hisparse_metrics.live.pace import SECOND, Pace
from hisparse_metrics.live.reading import RankReading, Readings
from hisparse_metrics.live.rows import RankRows, Row, combined

_log = logging.getLogger(__name__)
_LATE_SECONDS = 5.0
_CLOCK_TOLERANCE_SECONDS = 0.5


def steady_clock() -> float:
    """Return the seconds since the machine started: they go on in a suspend, and nobody sets them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class RankLatest:
    """One rank as it was sampled last; ``row`` is the last one of when it had levels, from ``row_time``."""

    reading: RankReading
    row: Row
    row_time: float | None


@dataclass(frozen=True, slots=True)
class Latest:
    """Everything about the last sample. ``time`` is of the steady clock; plus ``offset`` it is Unix time.

    ``epoch`` differs when times given out before no longer fit: another process, or a clock that was set.
    """

    number: int
    time: float
    offset: float
    epoch: str
    ranks: tuple[RankLatest, ...] = ()
    total: Row | None = None


class _Rank:
    """What is remembered of a rank from one sample to the next."""

    def __init__(self) -> None:
        self.rows = RankRows()
        self.stamp: object = None
        self.up: bool | None = None
        self.last: tuple[Row, float] | None = None


class Sampler:
    """Samples ``readings`` into :attr:`history`, between :meth:`start` and :meth:`close`."""

    def __init__(
        self,
        readings: Readings,
        *,
        steady: Callable[[], float] = steady_clock,
        wall: Callable[[], float] = time.time,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self.history = History()
        self._readings = readings
        self._steady, self._wall, self._cpu = steady, wall, cpu
        self._ranks: dict[str, _Rank] = {}
        self._pace = Pace()
        self._due: float | None = None
        self._instance = secrets.token_hex(4)
        self._clock_changes = 0
        self._failure = ""
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        now = steady()
        self.latest = Latest(0, now, wall() - now, self._epoch())

    def start(self) -> None:
        """Sample in a thread of its own, at once and then on and on."""
        self._thread = threading.Thread(target=self._run, name="hisparse-history", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Safe to call when it was never started."""
        self._stop.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join()

    def looked(self) -> None:
        """Say that somebody looks: sampling no longer takes it easy."""
        if self._pace.looked(self._steady()):
            self._bell.set()

    def turn(self) -> float:
        """Sample once, and return the seconds until the next sample is due."""
        began, now = self._cpu(), self._steady()
        if self._due is None:
            self._due = now
        elif now > self._due + _LATE_SECONDS:
            self.history.gap()  # the machine slept, or this process was stopped
        changed = self._sample(now)
        delay = self._pace.delay(now, self._cpu() - began, changed=changed)
        # A beat is kept where it can be: the delay counts from when this sample was due. After a long wait it begins
        # anew, for two samples close to each other would make rates of almost nothing.
        now = self._steady()
        on_beat = self._due + delay
        self._due = on_beat if on_beat > now + delay / 2 else now + delay
        return self._due - now

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._bell.wait(self.turn()):
                self._bell.clear()
                self._stop.wait(max(0.0, self.latest.time + SECOND - self._steady()))
                self._due = self._steady()

    def _sample(self, now: float) -> bool:
        """Add what is true now to the history; tell whether anything has changed since the last time."""
        found = self._read()
        changed = self._forget_others(found)
        ranks = []
        for reading in found:
            rank = self._ranks.setdefault(reading.id, _Rank())
            changed = self._note_changes(rank, reading, now) or changed
            ranks.append(_advance(rank, reading, now))
        rows = [(rank.reading, row) for rank, row in ranks]
        total = combined(rows)
        self.history.append(now, {ALL: total.values} | {reading.id: row.values for reading, row in rows})
        self._publish(now, tuple(rank for rank, _ in ranks), total)
        return changed

    def _read(self) -> Sequence[RankReading]:
        """Read every rank; a failure is said once and shows as a gap, for the exporter has more to do than this."""
        try:
            found = self._readings()
        except Exception as error:  # noqa: BLE001 - whatever it is, sampling goes on
            message = f"{type(error).__name__}: {error}"
            if message != self._failure:
                _log.exception("cannot sample for the live page")
            self._failure = message
            return ()
        self._failure = ""
        return found

    def _forget_others(self, found: Sequence[RankReading]) -> bool:
        ids = {reading.id for reading in found}
        gone = self._ranks.keys() - ids
        for rank in gone:
            del self._ranks[rank]
        return bool(gone)

    def _note_changes(self, rank: _Rank, reading: RankReading, now: float) -> bool:
        if rank.up and reading.up is False:
            self.history.note(now, "down", reading.id)
        changed, rank.stamp, rank.up = rank.stamp != reading.stamp, reading.stamp, reading.up
        return changed

    def _publish(self, now: float, ranks: tuple[RankLatest, ...], total: Row) -> None:
        offset = self._wall() - now
        if abs(offset - self.latest.offset) > _CLOCK_TOLERANCE_SECONDS:
            self._clock_changes += 1
        else:
            offset = self.latest.offset
        for rank in ranks:
            if self._ranks[rank.reading.id].rows.restarted:
                self.history.note(now, "restart", rank.reading.id)
        self.latest = Latest(self.latest.number + 1, now, offset, self._epoch(), ranks, total)

    def _epoch(self) -> str:
        return f"{self._instance}{self._clock_changes}"


def _advance(rank: _Rank, reading: RankReading, now: float) -> tuple[RankLatest, Row]:
    """Return the rank as it is now, or as it was when it last had levels, and its row for the history."""
    row = rank.rows.advance(now, reading)
    if reading.is_current:
        rank.last = (row, now)
    if rank.last is None:
        last_words = Row()
        last_words.set_levels(reading.levels)
        return RankLatest(reading, last_words, None), row
    return RankLatest(reading, *rank.last), row
