"""Which rows are hot: for every index group, a direct map between host slots and device slots, and its LRU clock.

An *index group* is a full-indexer layer and the shared-index layers that follow it: they select the same positions,
so they hold the same rows in the same slots and need one map. Maps are per group because every indexer selects for
itself. Pure accounting (NumPy): it moves no row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hisparse_engine.errors import InvariantError

NONE = -1  # "no slot": no host slot lives here, or this host slot is not resident

Slots = npt.NDArray[np.int64]


class Copies(NamedTuple):
    """Rows to bring in: ``host_slots[i]`` goes to ``device_slots[i]``; ``num_evicted`` rows lost their seat."""

    host_slots: Slots
    device_slots: Slots
    num_evicted: int


class ResidencyMap:
    """Host slot ↔ device slot per index group, with exact least-recently-used replacement.

    ``device_slot_of [groups, host_capacity]`` and ``host_slot_at [groups, device_capacity]`` are inverse to each
    other wherever both are set; ``last_use [groups, device_capacity]`` is the step in which a slot was last used,
    0 for a slot that holds nothing.
    """

    def __init__(self, num_groups: int, host_capacity: int, device_capacity: int) -> None:
        self.device_slot_of = np.full((num_groups, host_capacity), NONE, dtype=np.int32)
        self.host_slot_at = np.full((num_groups, device_capacity), NONE, dtype=np.int32)
        self.last_use = np.zeros((num_groups, device_capacity), dtype=np.int64)

    @property
    def num_bytes(self) -> int:
        """Memory that the maps take."""
        return self.device_slot_of.nbytes + self.host_slot_at.nbytes + self.last_use.nbytes

    def lookup(self, group: int, host_slots: Slots, now: int) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """Return (device slots, hit mask) of ``host_slots``; hits are marked as used ``now``."""
        device_slots = self.device_slot_of[group, host_slots].astype(np.int64)
        hits = device_slots != NONE
        self.last_use[group, device_slots[hits]] = now
        return device_slots, hits

    def replace(self, group: int, buffer: Slots, incoming: Slots, now: int) -> Copies:
        """Seat distinct, absent host slots ``incoming`` in the least recently used slots of ``buffer``.

        Slots used ``now`` are never given away; raises :class:`InvariantError` when the rest do not suffice.
        """
        victims = self._coldest(group, buffer, len(incoming), now)
        evicted = self.host_slot_at[group, victims]
        evicted = evicted[evicted != NONE]
        self.device_slot_of[group, evicted] = NONE
        self.device_slot_of[group, incoming] = victims
        self.host_slot_at[group, victims] = incoming
        self.last_use[group, victims] = now
        return Copies(incoming, victims, len(evicted))

    def seat_everywhere(self, buffer: Slots, host_slot: int, now: int) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """Seat one new host slot in every group, each in its own coldest slot of ``buffer``.

        Returns (device slot per group, whether a row lost that seat), both ``[groups]``.
        """
        groups = np.arange(len(self.last_use))
        victims = buffer[self.last_use[:, buffer].argmin(axis=1)]
        evicted = self.host_slot_at[groups, victims]
        gone = evicted != NONE
        self.device_slot_of[groups[gone], evicted[gone]] = NONE
        self.device_slot_of[:, host_slot] = victims
        self.host_slot_at[groups, victims] = host_slot
        self.last_use[groups, victims] = now
        return victims, gone

    def seat_prompt(self, buffer: Slots, host_slots: Slots, now: int) -> None:
        """Seat ``host_slots[i]`` at ``buffer[i]`` in every group: a prompt's last rows, all used ``now``."""
        self.device_slot_of[:, host_slots] = buffer
        self.host_slot_at[:, buffer] = host_slots
        self.last_use[:, buffer] = now

    def forget(self, host_slots: Slots, device_slots: Slots) -> None:
        """Clear what a leaving request's slots held, in every group."""
        self.device_slot_of[:, host_slots] = NONE
        self.host_slot_at[:, device_slots] = NONE
        self.last_use[:, device_slots] = 0

    def reset(self) -> None:
        """Nothing is resident."""
        self.device_slot_of.fill(NONE)
        self.host_slot_at.fill(NONE)
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
