"""Planning a swap-in: look up what a step wants, choose whom to evict, list what to copy. Moves no row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hisparse_engine.memory.residency import ResidencyMap, Slots, Where

UNWANTED = -1  # in a positions array: nothing here


class HotBuffer(NamedTuple):
    """One request: ``home[p]`` is position ``p``'s host slot, ``seats`` its device slots in use, ``where`` its map."""

    home: Slots
    seats: Slots
    where: Where


class RowCopies(NamedTuple):
    """Rows to bring in: the row at ``host_slots[i]`` goes to ``device_slots[i]``."""

    host_slots: Slots
    device_slots: Slots


class SwapPlan(NamedTuple):
    """Where each wanted position will sit (int64 ``[batch, k]``), and the copies that make that true."""

    slots: Slots
    copies: tuple[RowCopies, ...]
    lookups: int
    misses: int
    num_evicted: int


def plan_swap_in(
    residency: ResidencyMap,
    group: int,
    positions: npt.NDArray[np.int64],
    buffers: Sequence[HotBuffer],
    now: int,
) -> SwapPlan:
    """Make ``positions [batch, k]`` (padded with -1, duplicates allowed) resident in ``group``'s maps.

    The maps are updated at once; rows must be copied before anybody reads the slots. -1 entries get slot 0.
    """
    slots = np.zeros(positions.shape, dtype=np.int64)
    copies: list[RowCopies] = []
    lookups = misses = num_evicted = 0
    for row, buffer in enumerate(buffers):
        valid = positions[row] != UNWANTED
        wanted = positions[row][valid]
        found, hits = residency.lookup(buffer.where, group, wanted, now)
        lookups += len(wanted)
        if not hits.all():
            missing = wanted[~hits]
            misses += len(missing)
            seated = residency.replace(buffer.where, group, buffer.seats, np.unique(missing), now)
            copies.append(RowCopies(buffer.home[seated.positions], seated.device_slots))
            num_evicted += seated.num_evicted
            found = buffer.where[group, wanted]
        slots[row, valid] = found
    return SwapPlan(slots, tuple(copies), lookups, misses, num_evicted)
