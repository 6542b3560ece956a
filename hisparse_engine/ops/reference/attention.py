"""Attend in plain torch: latent attention over exactly the selected slots, empty ones skipped. The oracle of the GPU kernels.

A KV row is [normalised latent | roped key]; a query is [latent query | roped query], so one dot product is the whole
attention score and the latent part of the row is the value. Source: DeepSeek-V2 (MLA, weight absorption) and
DeepSeek-V3.2 (sparse selection).
"""

from __future__ import annotations

import torch

from hisparse_engine.ops.tables import NONE

_BLOCK_ELEMENTS = 1 << 24  # of gathered rows and of scores, per block of tokens


def attend(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, *, scale: float, latent_dim: int
) -> torch.Tensor:
    """See :meth:`hisparse_engine.ops.interface.Operations.attend`. Sums in fp32, or in the query's wider type."""
    out = query.new_zeros((*query.shape[:2], latent_dim))
    k, (heads, width) = slots.shape[1], query.shape[1:]
    if len(query) == 0 or k == 0:
        return out
    block = max(1, _BLOCK_ELEMENTS // (k * max(heads, width)))
    for start in range(0, len(query), block):
        tokens = slice(start, start + block)
        out[tokens] = _attend_block(query[tokens], rows, slots[tokens], scale, latent_dim)
    return out


def _attend_block(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, scale: float, latent_dim: int
) -> torch.Tensor:
    empty = slots == NONE
    wide = torch.promote_types(query.dtype, torch.float32)
    gathered = rows[slots.clamp(min=0).long()].to(wide)  # [T, k, width]
    gathered.masked_fill_(empty.unsqueeze(2), 0.0)  # what an empty entry's stand-in holds must not matter
    scores = torch.bmm(query.to(wide), gathered.transpose(1, 2)) * scale
    weights = torch.softmax(scores.masked_fill(empty.unsqueeze(1), float("-inf")), dim=-1)
    weights = weights.masked_fill(empty.unsqueeze(1), 0.0)  # a token without any slot: NaN until here
    return torch.bmm(weights, gathered[..., :latent_dim]).to(query.dtype)
