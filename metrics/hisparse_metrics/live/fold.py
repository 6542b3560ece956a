"""Several rows as one: lowest, highest and average of every column, so that no peak is lost in a coarser row."""

from __future__ import annotations

from collections.abc import Sequence

from hisparse_metrics.live.columns import NAN

_INF = float("inf")


class Fold:
    """What has been added since :meth:`clear`. A column without a value is NaN in all three rows."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._low = [_INF] * self._width
        self._high = [-_INF] * self._width
        self._sum = [0.0] * self._width
        self._count = [0] * self._width

    def add(self, row: Sequence[float]) -> None:
        """Take in one row; its NaNs count for nothing."""
        for index, value in enumerate(row):
            if value == value:
                self._count[index] += 1
                self._sum[index] += value
                if value < self._low[index]:
                    self._low[index] = value
                if value > self._high[index]:
                    self._high[index] = value

    def merge(self, other: Fold) -> None:
        """Take in everything that ``other`` has."""
        self._low = list(map(min, self._low, other._low))
        self._high = list(map(max, self._high, other._high))
        for index, count in enumerate(other._count):
            self._count[index] += count
            self._sum[index] += other._sum[index]

    @property
    def low(self) -> list[float]:
        """The lowest values."""
        return [value if count else NAN for value, count in zip(self._low, self._count, strict=True)]

    @property
    def high(self) -> list[float]:
        """The highest values."""
        return [value if count else NAN for value, count in zip(self._high, self._count, strict=True)]

    @property
    def average(self) -> list[float]:
        """The averages."""
        return [total / count if count else NAN for total, count in zip(self._sum, self._count, strict=True)]
