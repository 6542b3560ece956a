"""Slot ranges: who may use which slots of a pool. Pure accounting; holds no tensor and knows no request."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hisparse_engine.errors import InvariantError


class Extent(NamedTuple):
    """A run of adjacent slots: ``start, start + 1, …, stop - 1``."""

    start: int
    length: int

    @property
    def stop(self) -> int:
        """One past the last slot."""
        return self.start + self.length


def runs(slots: npt.NDArray[np.int64]) -> Iterator[Extent]:
    """Yield distinct ``slots`` as runs of adjacent ones, in ascending order."""
    ordered = np.sort(slots)
    for run in np.split(ordered, np.flatnonzero(np.diff(ordered) != 1) + 1):
        if len(run):
            yield Extent(int(run[0]), len(run))


def runs_in_order(slots: npt.NDArray[np.int64]) -> list[Extent]:
    """Return ``slots`` as runs of ascending adjacent ones, in the order given."""
    starts = np.flatnonzero(np.diff(slots, prepend=slots[:1] - 2) != 1)
    lengths = np.diff(starts, append=len(slots))
    return [Extent(int(slots[i]), int(n)) for i, n in zip(starts, lengths, strict=True)]


class ExtentAllocator:
    """Hands out slots ``0 … capacity - 1`` as few adjacent runs as it can, so that a sequence's rows lie together.

    Best fit when one free run is large enough, else the largest runs first: fragmentation costs adjacency, never
    capacity.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free: list[Extent] = (
            [Extent(0, capacity)] if capacity else []
        )  # sorted by start, never adjacent
        self._num_free = capacity

    @property
    def num_free(self) -> int:
        """Slots that nobody holds."""
        return self._num_free

    @property
    def free_extents(self) -> tuple[Extent, ...]:
        """The free runs in ascending order; no two of them touch."""
        return tuple(self._free)

    def allocate(self, count: int) -> tuple[Extent, ...]:
        """Take ``count`` slots; raises :class:`InvariantError` when fewer are free (callers check first)."""
        if count > self._num_free:
            raise InvariantError(f"allocate({count}) with {self._num_free} of {self.capacity} slots free")
        taken = []
        while count:
            taken.append(self._take(self._best_fit(count), count))
            count -= taken[-1].length
        return tuple(taken)

    def free(self, extents: Iterable[Extent]) -> None:
        """Give extents back, merging them with free neighbours; raises :class:`InvariantError` on a double free."""
        for extent in extents:
            self._give_back(extent)

    def _best_fit(self, count: int) -> int:
        fitting = [(e.length, i) for i, e in enumerate(self._free) if e.length >= count]
        if fitting:
            return min(fitting)[1]
        return max(range(len(self._free)), key=lambda i: self._free[i].length)

    def _take(self, i: int, count: int) -> Extent:
        run = self._free[i]
        taken = Extent(run.start, min(count, run.length))
        if taken.length == run.length:
            del self._free[i]
        else:
            self._free[i] = Extent(taken.stop, run.length - taken.length)
        self._num_free -= taken.length
        return taken

    def _give_back(self, extent: Extent) -> None:
        i = bisect_left(self._free, extent)
        before = self._free[i - 1] if i else None
        after = self._free[i] if i < len(self._free) else None
        overlaps = (before is not None and before.stop > extent.start) or (
            after is not None and extent.stop > after.start
        )
        if overlaps or extent.start < 0 or extent.stop > self.capacity:
            raise InvariantError(f"{extent} is freed but was not allocated")
        self._num_free += extent.length
        if after is not None and after.start == extent.stop:
            extent = Extent(extent.start, extent.length + after.length)
            del self._free[i]
        if before is not None and before.stop == extent.start:
            extent = Extent(before.start, before.length + extent.length)
            del self._free[i - 1]
        insort(self._free, extent)
