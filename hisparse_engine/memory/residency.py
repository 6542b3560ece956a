"""Which rows are hot: for every index group, a direct map from a request's positions to device slots, and its LRU clock.

An *index group* is a full-indexer layer and the shared-index layers that follow it: they select the same positions,
so they hold the same rows in the same slots and need one map. Maps are per group because every indexer selects for
itself, and per request because a host row that several requests share may be hot in each one's buffer. Pure accounting
(NumPy): it moves no row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hisparse_engine.errors import InvariantError

NONE = -1  # "nothing": no position lives in this device slot, or this position is not resident

Slots = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int64]
Where = npt.NDArray[np.int32]
"""One request's map ``[groups, positions]``: the device slot of each position, or :data:`NONE`."""


class Copies(NamedTuple):
    """Rows to bring in: ``positions[i]`` goes to ``device_slots[i]``; ``num_evicted`` rows lost their seat."""

    positions: Positions
    device_slots: Slots
    num_evicted: int


class ResidencyMap:
    """Position ↔ device slot per index group, with exact least-recently-used replacement.

    ``position_at [groups, device_capacity]`` is inverse to the requests' maps wherever both are set; a device slot
    belongs to one request's hot buffer, so a position there is that request's. ``last_use [groups, device_capacity]``
    is the step in which a slot was last used, 0 for a slot that holds nothing.
    """

    def __init__(self, num_groups: int, device_capacity: int) -> None:
        self.position_at = np.full((num_groups, device_capacity), NONE, dtype=np.int32)
        self.last_use = np.zeros((num_groups, device_capacity), dtype=np.int64)

    @property
    def num_bytes(self) -> int:
        """Memory that the device slots' side takes; a request's map takes 4 bytes a group and position more."""
        return self.position_at.nbytes + self.last_use.nbytes

    def new_map(self, num_positions: int) -> Where:
        """Return the map of a request none of whose rows is hot."""
        return np.full((len(self.last_use), num_positions), NONE, dtype=np.int32)

    def lookup(
        self, where: Where, group: int, positions: Positions, now: int
    ) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """Return (device slots, hit mask) of ``positions``; hits are marked as used ``now``."""
        device_slots = where[group, positions].astype(np.int64)
        hits = device_slots != NONE
        self.last_use[group, device_slots[hits]] = now
        return device_slots, hits

    def replace(self, where: Where, group: int, buffer: Slots, incoming: Positions, now: int) -> Copies:
        """Seat distinct, absent positions ``incoming`` in the least recently used slots of ``buffer``.

        Slots used ``now`` are never given away; raises :class:`InvariantError` when the rest do not suffice.
        """
        victims = self._coldest(group, buffer, len(incoming), now)
        evicted = self.position_at[group, victims]
        evicted = evicted[evicted != NONE]
        where[group, evicted] = NONE
        where[group, incoming] = victims
        self.position_at[group, victims] = incoming
        self.last_use[group, victims] = now
        return Copies(incoming, victims, len(evicted))

    def seat_everywhere(
        self, where: Where, buffer: Slots, position: int, now: int
    ) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """Seat one new position in every group, each in its own coldest slot of ``buffer``.

        Returns (device slot per group, whether a row lost that seat), both ``[groups]``.
        """
        groups = np.arange(len(self.last_use))
        victims = buffer[self.last_use[:, buffer].argmin(axis=1)]
        evicted = self.position_at[groups, victims]
        gone = evicted != NONE
        where[groups[gone], evicted[gone]] = NONE
        where[:, position] = victims
        self.position_at[groups, victims] = position
        self.last_use[groups, victims] = now
        return victims, gone

    def seat_prompt(self, where: Where, buffer: Slots, positions: Positions, now: int) -> None:
        """Seat ``positions[i]`` at ``buffer[i]`` in every group: a prompt's last rows, all used ``now``."""
        where[:, positions] = buffer
        self.position_at[:, buffer] = positions
        self.last_use[:, buffer] = now

    def forget(self, device_slots: Slots) -> None:
        """Clear what a leaving request's slots held, in every group; its map goes with it."""
        self.position_at[:, device_slots] = NONE
        self.last_use[:, device_slots] = 0

    def reset(self) -> None:
        """Nothing is resident."""
        self.position_at.fill(NONE)
        self.last_use.fill(0)

    def _coldest(self, group: int, buffer: Slots, count: int, now: int) -> Slots:
        ages = self.last_use[group, buffer]
        # With every slot wanted there is nothing to order.
        picked = np.arange(len(buffer)) if count >= len(buffer) else np.argpartition(ages, count)[:count]
        if count > len(buffer) or bool((ages[picked] >= now).any()):
            raise InvariantError(
                f"{count} rows to seat do not fit the cold slots of a buffer of {len(buffer)}"
            )
        return buffer[picked]
