"""A pool: the rows of one tier and the account of who holds its slots."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.extents import Extent, ExtentAllocator, runs
from hisparse_engine.memory.pinned import pinned_zeros

Slots = npt.NDArray[np.int64]


def _no_slots() -> Slots:
    return np.empty(0, dtype=np.int64)


@dataclass(eq=False)
class Claim:
    """One request's slots in one pool: ``slots[i]`` is its i-th slot, the first ``num_used`` of them are in use.

    Slots are claimed (reserved) before they are used, so that growth never finds the pool empty. Where ``owned[i]`` is
    false the slot belongs to the prefix tree: it is in use, read, never written, and not this claim's to free.
    """

    slots: Slots = field(default_factory=_no_slots)
    num_used: int = 0
    owned: npt.NDArray[np.bool_] = field(init=False)
    start: int | None = field(init=False)
    """First slot when all slots are adjacent and in order, so that they can be read as one slice; else None."""

    def __post_init__(self) -> None:
        """Own the slots, and look whether they are adjacent."""
        self._set(self.slots, np.ones(len(self.slots), dtype=np.bool_))

    @property
    def size(self) -> int:
        """Slots reserved."""
        return len(self.slots)

    @property
    def own_slots(self) -> Slots:
        """The slots that this claim owns, used or not."""
        return self.slots[self.owned]

    @property
    def num_own_used(self) -> int:
        """Slots in use that this claim owns."""
        return int(np.count_nonzero(self.owned[: self.num_used]))

    def append(self, slots: Slots) -> None:
        """Own further slots, at the end."""
        owned = np.concatenate([self.owned, np.ones(len(slots), dtype=np.bool_)])
        self._set(np.concatenate([self.slots, slots]), owned)

    def borrow(self, slots: Slots) -> Slots:
        """Use ``slots``, whose rows exist, as the next ones; return the slots that were claimed in their place."""
        start, stop = self.num_used, self.num_used + len(slots)
        replaced = self.slots[start:stop]
        owned = np.concatenate([self.owned[:start], np.zeros(len(slots), dtype=np.bool_), self.owned[stop:]])
        self._set(np.concatenate([self.slots[:start], slots, self.slots[stop:]]), owned)
        self.num_used = stop
        return replaced

    def give_away(self, start: int, stop: int) -> None:
        """Part with the ownership of the used slots ``start … stop - 1``; they stay in use here."""
        self.owned[start:stop] = False

    def cut(self, size: int) -> Slots:
        """Hold the first ``size`` slots only, all of them owned; return the others."""
        dropped = self.slots[size:]
        self._set(self.slots[:size], self.owned[:size])
        self.num_used = min(self.num_used, size)
        return dropped

    def clear(self) -> None:
        """Hold nothing."""
        self._set(_no_slots(), np.empty(0, dtype=np.bool_))
        self.num_used = 0

    def _set(self, slots: Slots, owned: npt.NDArray[np.bool_]) -> None:
        self.slots, self.owned = slots, owned
        adjacent = len(slots) > 0 and bool((np.diff(slots) == 1).all())
        self.start = int(slots[0]) if adjacent else None


class TokenPool:
    """``capacity`` slots of ``[num_layers, capacity, width]`` rows; one slot is one token in every layer.

    ``num_used + num_available == capacity`` always. ``num_used`` counts a row once, however many requests share it;
    ``num_cached`` rows are kept for reuse, in use by nobody, and available: they are evicted when others need room.
    ``num_reserved`` (≥ ``num_used``) is what admitted requests may come to use, so a pool can be full, never overrun.
    """

    def __init__(
        self,
        capacity: int,
        num_layers: int,
        width: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        pinned: bool = False,
    ) -> None:
        self.capacity = capacity
        shape = (num_layers, capacity, width)
        self.rows = pinned_zeros(shape, dtype) if pinned else torch.zeros(shape, dtype=dtype, device=device)
        self.row_bytes = width * dtype.itemsize  # one token in one layer
        self._allocator = ExtentAllocator(capacity)
        self.num_used = 0
        self.num_cached = 0

    @property
    def num_available(self) -> int:
        """Slots that no admitted request uses."""
        return self.capacity - self.num_used

    @property
    def num_free(self) -> int:
        """Slots that can be claimed without evicting anything."""
        return self._allocator.num_free

    @property
    def num_reserved(self) -> int:
        """Slots that admitted requests use or may come to use."""
        return self.capacity - self.num_unreserved

    @property
    def num_unreserved(self) -> int:
        """Slots that a new request could be promised."""
        return self._allocator.num_free + self.num_cached

    @property
    def free_extents(self) -> tuple[Extent, ...]:
        """Runs of slots that nobody holds."""
        return self._allocator.free_extents

    def reserve(self, count: int) -> Claim:
        """Promise ``count`` slots to a new claim."""
        claim = Claim()
        self.extend(claim, count)
        return claim

    def extend(self, claim: Claim, count: int) -> None:
        """Promise ``count`` more slots to ``claim``."""
        extents = self._allocator.allocate(count)
        if extents:
            claim.append(np.concatenate([np.arange(e.start, e.stop) for e in extents]))

    def use(self, claim: Claim, count: int) -> None:
        """Put ``claim``'s first ``count`` slots to use (``count`` never falls while a claim is held)."""
        if not claim.num_used <= count <= claim.size:
            raise InvariantError(f"use({count}) of a claim of {claim.size} slots, {claim.num_used} in use")
        self.num_used += count - claim.num_used
        claim.num_used = count

    def release(self, claim: Claim) -> None:
        """Take every slot back that ``claim`` owns; it holds nothing any more."""
        self.num_used -= claim.num_own_used
        self.free(claim.own_slots)
        claim.clear()

    def shrink(self, claim: Claim, size: int) -> None:
        """Take back all but the first ``size`` slots of ``claim``, in use or not."""
        before = claim.num_used
        self.free(claim.cut(size))
        self.num_used -= before - claim.num_used

    def free(self, slots: Slots) -> None:
        """Take back slots that nobody uses."""
        self._allocator.free(runs(slots))

    def evict(self, slots: Slots) -> None:
        """Take back slots of cached rows."""
        self.free(slots)
        self.num_cached -= len(slots)

    def move_cached(self, count: int) -> None:
        """Note that ``count`` rows in use are only cached now; negative: that cached ones are in use again."""
        self.num_cached += count
        self.num_used -= count

    def reset(self) -> None:
        """Forget every claim: all slots are free. For accounts that do not add up; rows stay as they are."""
        self._allocator = ExtentAllocator(self.capacity)
        self.num_used = self.num_cached = 0

    def read(self, layer: int, claim: Claim, count: int) -> torch.Tensor:
        """Return ``claim``'s first ``count`` rows of one layer, ``[count, width]``: a view when slots are adjacent."""
        if claim.start is not None:
            return self.rows[layer, claim.start : claim.start + count]
        return self.rows[layer, torch.from_numpy(claim.slots[:count]).to(self.rows.device)]

    def write(self, layer: int, claim: Claim, start: int, rows: torch.Tensor) -> None:
        """Write ``rows [n, width]`` to ``claim``'s slots ``start … start + n - 1`` of one layer."""
        stop = start + len(rows)
        if claim.start is not None:
            self.rows[layer, claim.start + start : claim.start + stop].copy_(rows)
        else:
            slots = torch.from_numpy(claim.slots[start:stop]).to(self.rows.device)
            self.rows[layer].index_copy_(0, slots, rows.to(self.rows.device, self.rows.dtype))
