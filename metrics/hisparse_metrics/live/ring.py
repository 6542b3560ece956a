"""Rows of floats in a fixed amount of memory: the newest replaces the oldest."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from hisparse_metrics.live.columns import NAN


class Ring:
    """The last ``capacity`` rows of ``width`` values each, by row number; a row never written is NaN.

    Values are four bytes; with ``precise`` eight, as times need.
    """

    def __init__(self, capacity: int, width: int, *, precise: bool = False) -> None:
        self._capacity = capacity
        self._cells = array("d" if precise else "f", [NAN]) * (capacity * width)
        self._starts = range(
            0, capacity * width, capacity
        )  # a column is contiguous: reading one is two slices

    @property
    def num_bytes(self) -> int:
        """Memory of the rows; constant."""
        return len(self._cells) * self._cells.itemsize

    def put(self, number: int, row: Sequence[float]) -> None:
        """Write row ``number``."""
        at = number % self._capacity
        for start, value in zip(self._starts, row, strict=True):
            self._cells[start + at] = value

    def column(self, index: int, first: int, end: int) -> array[float]:
        """Return the values of one column in rows ``first`` to ``end``, which is not included."""
        start, low, high = self._starts[index], first % self._capacity, end % self._capacity
        if end <= first:
            return self._cells[0:0]
        if low < high:
            return self._cells[start + low : start + high]
        return self._cells[start + low : start + self._capacity] + self._cells[start : start + high]

    def clear(self) -> None:
        """Forget every row."""
        for index in range(len(self._cells)):
            self._cells[index] = NAN
