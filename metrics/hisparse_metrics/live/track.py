"""The history of one rank, or of all together: fine rows, and coarser ones that keep every peak. Fixed memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hisparse_metrics.live.columns import NAN, WIDTH
from hisparse_metrics.live.fold import Fold
from hisparse_metrics.live.ring import Ring


@dataclass(frozen=True, slots=True)
class Tier:
    """Rows of one resolution: each stands for ``seconds``, and ``capacity`` of them are kept."""

    seconds: int
    capacity: int


FINE = Tier(1, 900)
COARSE = (Tier(10, 360), Tier(60, 1440))
"""Each a multiple of the one before: the coarser is made of the finer."""

NO_ROW = (NAN,) * WIDTH


class CoarseRows:
    """Lowest, average and highest of one coarse tier."""

    def __init__(self, tier: Tier) -> None:
        self.low, self.average, self.high = (Ring(tier.capacity, WIDTH) for _ in range(3))
        self.fold = Fold(WIDTH)

    def put(self, number: int, fold: Fold) -> None:
        """Write what has been folded as row ``number``."""
        self.low.put(number, fold.low)
        self.average.put(number, fold.average)
        self.high.put(number, fold.high)


class Track:
    """The rows of one rank in every tier."""

    def __init__(self) -> None:
        self.fine = Ring(FINE.capacity, WIDTH)
        self.coarse = tuple(CoarseRows(tier) for tier in COARSE)

    @property
    def num_bytes(self) -> int:
        """Memory of all rows; the same for every track and at every time."""
        return self.fine.num_bytes + sum(
            ring.num_bytes for rows in self.coarse for ring in (rows.low, rows.average, rows.high)
        )

    def add(self, number: int, row: Sequence[float]) -> None:
        """Take in one fine row."""
        self.fine.put(number, row)
        self.coarse[0].fold.add(row)

    def close(self, level: int, number: int) -> None:
        """End a coarse row: write it, and pass it on to the next tier."""
        rows = self.coarse[level]
        rows.put(number, rows.fold)
        if level + 1 < len(self.coarse):
            self.coarse[level + 1].fold.merge(rows.fold)
        rows.fold.clear()

    def unfinished(self, level: int) -> Fold:
        """Return the coarse row that has begun and not ended."""
        fold = Fold(WIDTH)
        for rows in self.coarse[: level + 1]:
            fold.merge(rows.fold)
        return fold
