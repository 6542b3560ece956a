"""Planning a swap-in: look up what a step wants, choose whom to evict, list what to copy. Moves no row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hisparse_engine.memory.residency import Copies, ResidencyMap, Slots

UNWANTED = -1  # in a positions array: nothing here


class HotBuffer(NamedTuple):
    """One request's slots: ``home[p]`` is position ``p``'s host slot, ``seats`` are its device slots in use."""

    home: Slots
    seats: Slots


class SwapPlan(NamedTuple):
    """Where each wanted position will sit (int64 ``[batch, k]``), and the copies that make that true."""

    slots: Slots
    copies: tuple[Copies, ...]
    lookups: int
    misses: int

    @property
    def num_evicted(self) -> int:
        """Rows that lose their seat."""
        return sum(copies.num_evicted for copies in self.copies)


def plan_swap_in(
    residency: ResidencyMap,
    group: int,
    positions: npt.NDArray[np.int64],
    buffers: Sequence[HotBuffer],
    now: int,
) -> SwapPlan:
    """Make ``positions [batch, k]`` (padded with -1, duplicates allowed) resident in ``group``'s map.

    The map is updated at once; rows must be copied before anybody reads the slots. -1 entries get slot 0.
    """
    slots = np.zeros(positions.shape, dtype=np.int64)
    copies: list[Copies] = []
    lookups = misses = 0
    for row, buffer in enumerate(buffers):
        wanted = positions[row] != UNWANTED
        home = buffer.home[positions[row][wanted]]
        found, hits = residency.lookup(group, home, now)
        lookups += len(home)
        if not hits.all():
            missing = home[~hits]
            misses += len(missing)
            copies.append(residency.replace(group, buffer.seats, np.unique(missing), now))
            found = residency.device_slot_of[group, home]
        slots[row, wanted] = found
    return SwapPlan(slots, tuple(copies), lookups, misses)
