"""A pool: the rows of one tier and the account of who holds its slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.extents import Extent, ExtentAllocator


@dataclass(eq=False)
class Claim:
    """One request's slots in one pool: ``slots[i]`` is its i-th slot, the first ``num_used`` of them are in use.

    Slots are claimed (reserved) before they are used, so that growth never finds the pool empty.
    """

    extents: list[Extent] = field(default_factory=list)
    slots: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    num_used: int = 0

    @property
    def size(self) -> int:
        """Slots reserved."""
        return len(self.slots)

    def append(self, extent: Extent) -> None:
        """Add an extent to the list, as one with the last where it continues it."""
        if self.extents and self.extents[-1].stop == extent.start:
            extent = Extent(self.extents[-1].start, self.extents.pop().length + extent.length)
        self.extents.append(extent)

    @property
    def start(self) -> int | None:
        """First slot when all slots are adjacent and in order, so that they can be read as one slice; else None."""
        return self.extents[0].start if len(self.extents) == 1 else None


class TokenPool:
    """``capacity`` slots of ``[num_layers, capacity, width]`` rows; one slot is one token in every layer.

    ``num_used + num_available == capacity`` always; ``num_reserved`` (≥ ``num_used``) is what admitted requests
    may come to use, so a pool can be full but never overrun.
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
        self.rows = torch.zeros((num_layers, capacity, width), dtype=dtype, device=device, pin_memory=pinned)
        self.row_bytes = width * dtype.itemsize  # one token in one layer
        self._allocator = ExtentAllocator(capacity)
        self.num_used = 0

    @property
    def num_available(self) -> int:
        """Slots without a token."""
        return self.capacity - self.num_used

    @property
    def num_reserved(self) -> int:
        """Slots that admitted requests use or may come to use."""
        return self.capacity - self._allocator.num_free

    @property
    def num_unreserved(self) -> int:
        """Slots that a new request could be promised."""
        return self._allocator.num_free

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
        for extent in extents:
            claim.append(extent)
        claim.slots = np.concatenate([claim.slots, *(np.arange(e.start, e.stop) for e in extents)])

    def use(self, claim: Claim, count: int) -> None:
        """Put ``claim``'s first ``count`` slots to use (``count`` never falls while a claim is held)."""
        if not claim.num_used <= count <= claim.size:
            raise InvariantError(f"use({count}) of a claim of {claim.size} slots, {claim.num_used} in use")
        self.num_used += count - claim.num_used
        claim.num_used = count

    def release(self, claim: Claim) -> None:
        """Take every slot of ``claim`` back."""
        self._allocator.free(claim.extents)
        self.num_used -= claim.num_used
        claim.extents, claim.slots, claim.num_used = [], np.empty(0, dtype=np.int64), 0

    def reset(self) -> None:
        """Forget every claim: all slots are free. For accounts that do not add up; rows stay as they are."""
        self._allocator = ExtentAllocator(self.capacity)
        self.num_used = 0

    def read(self, layer: int, claim: Claim, count: int) -> torch.Tensor:
        """Return ``claim``'s first ``count`` rows of one layer, ``[count, width]``: a view when slots are adjacent."""
        if claim.start is not None:
            return self.rows[layer, claim.start : claim.start + count]
        return self.rows[layer, torch.from_numpy(claim.slots[:count]).to(self.rows.device)]

    def copy_rows(self, source: Claim, target: Claim, start: int, stop: int) -> None:
        """Copy the rows at ``source``'s slots ``start … stop - 1`` to the same places of ``target``, in all layers."""
        origin = torch.from_numpy(source.slots[start:stop]).to(self.rows.device)
        self.rows.index_copy_(
            1, torch.from_numpy(target.slots[start:stop]).to(self.rows.device), self.rows[:, origin]
        )

    def write(self, layer: int, claim: Claim, start: int, rows: torch.Tensor) -> None:
        """Write ``rows [n, width]`` to ``claim``'s slots ``start … start + n - 1`` of one layer."""
        stop = start + len(rows)
        if claim.start is not None:
            self.rows[layer, claim.start + start : claim.start + stop].copy_(rows)
        else:
            slots = torch.from_numpy(claim.slots[start:stop]).to(self.rows.device)
            self.rows[layer].index_copy_(0, slots, rows.to(self.rows.device, self.rows.dtype))


def extend_all(claims: Sequence[tuple[TokenPool, Claim]], count: int) -> bool:
    """Promise every claim ``count`` more slots; False, and nothing changes, when a pool has fewer."""
    if any(pool.num_unreserved < count for pool, _ in claims):
        return False
    for pool, claim in claims:
        pool.extend(claim, count)
    return True
