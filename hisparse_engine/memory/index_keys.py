"""Index keys: device-resident for the whole sequence, one row per token and full-indexer layer. The third resource."""

from __future__ import annotations

import torch

from hisparse_engine.memory.pool import Claim, TokenPool


class IndexKeys:
    """The keys that the lightning indexer scores, ``[groups, capacity, index_head_dim]``."""

    def __init__(self, pool: TokenPool) -> None:
        self.pool = pool
        self.scales: torch.Tensor | None = None
        """float32 ``[groups, capacity]`` where keys are stored as float8: key = stored · scale."""
        if pool.rows.dtype == torch.float8_e4m3fn:
            self.scales = torch.zeros(pool.rows.shape[:2], dtype=torch.float32, device=pool.rows.device)

    def append(self, group: int, claims: list[Claim], keys: torch.Tensor) -> None:
        """Write each request's newest key: ``keys [batch, dim]`` to the last used slot of each claim."""
        for claim, key in zip(claims, keys, strict=True):
            self.pool.rows[group, int(claim.slots[claim.num_used - 1])] = key

    def write(self, group: int, claim: Claim, start: int, keys: torch.Tensor) -> None:
        """Write a chunk's keys ``[tokens, dim]`` from the claim's slot ``start`` on."""
        self.pool.write(group, claim, start, keys)

    def read(self, group: int, claim: Claim) -> torch.Tensor:
        """Return the keys of every token so far, ``[length, dim]`` (a view when the slots are adjacent)."""
        return self.pool.read(group, claim, claim.num_used)
