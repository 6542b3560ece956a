"""From a rank's readings to its rows: levels as they are, totals as rates, histograms as recent quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hisparse_metrics.histogram import Histogram, merged, quantile
from hisparse_metrics.live.columns import (
    COLUMNS,
    DURATIONS,
    INDEX,
    LEVELS,
    NAN,
    QUANTILES,
    RATES,
    WIDTH,
    Combine,
)
from hisparse_metrics.live.reading import RankReading
from hisparse_metrics.live.recent import RecentCounts


@dataclass(slots=True)
class Row:
    """One rank, or several, over one tick: a value per column, NaN where there is none, and what they were made of."""

    values: list[float] = field(default_factory=lambda: [NAN] * WIDTH)
    hits: float = 0.0
    lookups: float = 0.0
    recent: dict[str, Histogram] = field(default_factory=dict)

    def set_levels(self, levels: Mapping[str, float]) -> None:
        """Fill in the columns that a reading states."""
        for name in LEVELS:
            self.values[INDEX[name]] = levels.get(name, NAN)

    def derive(self) -> None:
        """Fill in the columns that are made of lookups and observations."""
        if self.lookups > 0:
            self.values[INDEX["hit_ratio"]] = self.hits / self.lookups
        for name, histogram in self.recent.items():
            for suffix, q in QUANTILES.items():
                value = quantile(q, histogram)
                self.values[INDEX[f"{name}_{suffix}"]] = NAN if value is None else value


class RankRows:
    """Makes the rows of one rank; remembers the reading before and the recent observations."""

    def __init__(self) -> None:
        self._before: tuple[float, Mapping[str, float]] | None = None
        self._incarnation: float | None = None
        self._recent = {name: RecentCounts() for name in DURATIONS}
        self.restarted = False

    def advance(self, time: float, reading: RankReading) -> Row:
        """Return the row at ``time`` (seconds of a clock that never jumps); :attr:`restarted` tells of this reading.

        A rate needs a reading before; after a restart the totals have grown from zero. What is not true any more is
        NaN, not its last value and not zero.
        """
        self.restarted = self._incarnation not in (None, reading.incarnation)
        self._incarnation = reading.incarnation
        if self.restarted:
            self._restart(reading)
        row = Row()
        if reading.is_current:
            row.set_levels(reading.levels)
        self._add_rates(row, time, reading)
        for name, counts in self._recent.items():
            recent = counts.advance(time, reading.histograms.get(name))
            if recent is not None and reading.up is not False:
                row.recent[name] = recent
        row.derive()
        return row

    def _restart(self, reading: RankReading) -> None:
        """Begin at zero, as a page does; a log's counters are the sidecar's own and go on."""
        if self._before is None or not reading.histograms:
            return
        time, totals = self._before
        self._before = (time, dict.fromkeys(totals, 0.0))
        for counts in self._recent.values():
            counts.restart(time)

    def _add_rates(self, row: Row, time: float, reading: RankReading) -> None:
        before, self._before = self._before, (time, reading.totals)
        if before is None or time <= before[0] or reading.up is False:
            return
        seconds, totals = time - before[0], before[1]
        rates = {
            name: max(0.0, value - totals.get(name, 0.0)) / seconds for name, value in reading.totals.items()
        }
        for name in RATES:
            if name in rates:
                row.values[INDEX[name]] = rates[name]
        row.hits, row.lookups = rates.get("hits", 0.0), rates.get("lookups", 0.0)


def combined(rows: Sequence[tuple[RankReading, Row]]) -> Row:
    """Return the row of all ranks together."""
    total = Row()
    for index, combine in enumerate(COLUMNS.values()):
        if combine is not Combine.DERIVED:
            total.values[index] = _COMBINE[combine](index, rows)
    total.hits = sum(row.hits for _, row in rows)
    total.lookups = sum(row.lookups for _, row in rows)
    for name in DURATIONS:
        together = merged([row.recent[name] for _, row in rows if name in row.recent])
        if together is not None:
            total.recent[name] = together
    total.derive()
    return total


_Rows = Sequence[tuple[RankReading, Row]]


def _known(index: int, rows: _Rows) -> list[float]:
    values = [row.values[index] for _, row in rows]
    return [value for value in values if value == value]  # NaN differs from itself


def _sum(index: int, rows: _Rows) -> float:
    known = _known(index, rows)
    return sum(known) if known else NAN


def _largest(index: int, rows: _Rows) -> float:
    return max(_known(index, rows), default=NAN)


def _once_per_token(index: int, rows: _Rows) -> float:
    owners: dict[tuple[str, ...], float] = {}
    for reading, row in rows:
        value = row.values[index]
        if value == value and value >= owners.get(reading.token_owner, value):
            owners[reading.token_owner] = value
    return sum(owners.values()) if owners else NAN


_COMBINE = {Combine.SUM: _sum, Combine.LARGEST: _largest, Combine.ONCE_PER_TOKEN: _once_per_token}
