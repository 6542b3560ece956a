"""Conservation: the account of a pool must add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.pool import Claim, Slots, TokenPool

_NOTHING: Slots = np.empty(0, dtype=np.int64)


def audit_pool(name: str, pool: TokenPool, claims: Sequence[Claim], shared: Slots = _NOTHING) -> None:
    """Raise :class:`InvariantError` unless the claims' own slots, ``shared`` ones and free ones partition ``pool``."""
    held = np.concatenate([shared, *(claim.own_slots for claim in claims)])
    free = sum(extent.length for extent in pool.free_extents)
    if len(np.unique(held)) != len(held):
        raise InvariantError(f"{name}: a slot has two owners")
    if len(held) + free != pool.capacity or free != pool.num_free:
        raise InvariantError(f"{name}: {len(held)} held + {free} free is not the capacity {pool.capacity}")
    in_use = sum(claim.num_own_used for claim in claims) + len(shared) - pool.num_cached
    if in_use != pool.num_used:
        raise InvariantError(f"{name}: {pool.num_used} used, but its owners use another number, {in_use}")
