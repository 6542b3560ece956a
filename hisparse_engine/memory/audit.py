"""Conservation: the account of a pool must add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.pool import Claim, TokenPool


def audit_pool(name: str, pool: TokenPool, claims: Sequence[Claim]) -> None:
    """Raise :class:`InvariantError` unless ``claims`` and free slots partition ``pool``, and the counts agree."""
    held = np.concatenate([c.slots for c in claims]) if claims else np.empty(0, dtype=np.int64)
    free = sum(extent.length for extent in pool.free_extents)
    if len(np.unique(held)) != len(held):
        raise InvariantError(f"{name}: a slot has two owners")
    if len(held) + free != pool.capacity or free != pool.num_unreserved:
        raise InvariantError(f"{name}: {len(held)} held + {free} free is not the capacity {pool.capacity}")
    if sum(c.num_used for c in claims) != pool.num_used:
        raise InvariantError(f"{name}: {pool.num_used} used, but its owners use another number")
