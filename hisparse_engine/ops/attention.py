"""Attend: multi-head latent attention over exactly the selected KV rows, in latent form.

A KV row is [normalised latent | roped key]; a query is [latent query | roped query], so one dot product is the
whole attention score and the latent part of the row is the value. Keys and values are never expanded per head.
Source: DeepSeek-V2 (MLA, weight absorption) and DeepSeek-V3.2 (sparse selection).
"""

from __future__ import annotations

import torch

from hisparse_engine.ops.select import MASKED

_BLOCK_FLOATS = 1 << 23  # largest intermediate per query block, in elements
_DENSE_FACTOR = 4  # below this many rows per selected row, masking all of them beats gathering


def sparse_attention(
    query: torch.Tensor,
    rows: torch.Tensor,
    slots: torch.Tensor,
    valid: torch.Tensor,
    *,
    scale: float,
    latent_dim: int,
) -> torch.Tensor:
    """Attend each token's ``slots`` of ``rows``.

    ``query [tokens, heads, width]``, ``rows [num_slots, width]``, ``slots`` int64 and ``valid`` bool
    ``[tokens, k]`` (an invalid entry may hold any slot in range). Returns ``[tokens, heads, latent_dim]`` in the
    query's dtype; softmax in fp32. Every token needs at least one valid slot.
    """
    return attend_gathered(query, gather_rows(rows, slots), valid, scale=scale, latent_dim=latent_dim)


def gather_rows(rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Return ``slots`` int64 ``[tokens, k]`` of ``rows [num_slots, width]``: ``[tokens, k, width]``."""
    return rows.index_select(0, slots.reshape(-1)).view(*slots.shape, rows.shape[-1])


def attend_gathered(
    query: torch.Tensor, gathered: torch.Tensor, valid: torch.Tensor, *, scale: float, latent_dim: int
) -> torch.Tensor:
    """Attend rows ``gathered [tokens, k, width]``; otherwise as :func:`sparse_attention`."""
    scores = torch.bmm(query, gathered.transpose(1, 2)).mul_(scale)
    scores.masked_fill_(~valid.unsqueeze(1), float("-inf"))
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.bmm(weights, gathered[..., :latent_dim])


def prefill_attention(
    query: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor, *, scale: float, latent_dim: int
) -> torch.Tensor:
    """Attend ``positions [tokens, k]`` (padded with MASKED) of one request's ``rows [length, width]``.

    Gathers the selected rows where they are few, else scores all rows under a mask: same result, fewer bytes.
    """
    dense = len(rows) <= _DENSE_FACTOR * positions.shape[1]
    row_cost = len(rows) * query.shape[1] if dense else positions.shape[1] * rows.shape[1]
    block = max(1, _BLOCK_FLOATS // row_cost)
    outputs = []
    for start in range(0, len(query), block):
        part, chosen = query[start : start + block], positions[start : start + block]
        if dense:
            outputs.append(_masked_attention(part, rows, chosen, scale, latent_dim))
        else:
            valid = chosen != MASKED
            slots = chosen.clamp(min=0)
            outputs.append(sparse_attention(part, rows, slots, valid, scale=scale, latent_dim=latent_dim))
    return torch.cat(outputs)


def _masked_attention(
    query: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor, scale: float, latent_dim: int
) -> torch.Tensor:
    hidden = torch.ones((len(query), len(rows) + 1), dtype=torch.bool, device=rows.device)
    hidden.scatter_(
        1, positions.where(positions != MASKED, len(rows)), False
    )  # MASKED lands in a column to drop
    scores = torch.matmul(query, rows.T).mul_(scale)
    scores.masked_fill_(hidden[:, None, :-1], float("-inf"))
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, rows[:, :latent_dim])
