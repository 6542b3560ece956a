"""Attend in plain torch: latent attention over exactly the selected slots, empty ones skipped. The oracle of the GPU kernels.

A KV row is [normalised latent | roped key]; a query is [latent query | roped query], so one dot product is the whole
attention score and the latent part of the row is the value. Source: DeepSeek-V2 (MLA, weight absorption) and
DeepSeek-V3.2 (sparse selection).
"""

from __future__ import annotations

import torch

from hisparse_engine.ops.float8_rows import SCALE_GROUP
from hisparse_engine.ops.tables import NONE

_LARGEST_E4M3 = 448.0
_SMALLEST_SCALE = 1e-4  # of a group's largest magnitude: zeros stay zeros
_BLOCK_ELEMENTS = 1 << 24  # of gathered rows and of scores, per block of tokens


def attend(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, *, scale: float, latent_dim: int
) -> torch.Tensor:
    """See :meth:`hisparse_engine.ops.interface.Operations.attend`. Sums in fp32, or in the query's wider type.

    uint8 ``rows`` are what :func:`quantise_rows` makes.
    """
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
    gathered = rows[slots.clamp(min=0).long()]  # [T, k, width]
    if rows.dtype == torch.uint8:
        gathered = dequantise_rows(gathered, latent_dim)[..., : query.shape[2]]  # without what fills a row up
    gathered = gathered.to(wide)
    gathered.masked_fill_(empty.unsqueeze(2), 0.0)  # what an empty entry's stand-in holds must not matter
    scores = torch.bmm(query.to(wide), gathered.transpose(1, 2)) * scale
    weights = torch.softmax(scores.masked_fill(empty.unsqueeze(1), float("-inf")), dim=-1)
    weights = weights.masked_fill(empty.unsqueeze(1), 0.0)  # a token without any slot: NaN until here
    return torch.bmm(weights, gathered[..., :latent_dim]).to(query.dtype)


def quantise_rows(rows: torch.Tensor, latent_dim: int) -> torch.Tensor:
    """Return KV ``rows [..., width]`` as bytes, uint8 ``[..., latent_dim + latent_dim // 32 + 2 · rope]``.

    The latent as float8_e4m3fn, then a float32 scale for every 128 of its numbers (the group's largest magnitude
    / 448), then the rope key as bfloat16: DeepSeek-V3.2's layout, 656 bytes for 512 + 64. Source: FlashMLA.
    """
    groups = rows[..., :latent_dim].float().reshape(*rows.shape[:-1], -1, SCALE_GROUP)
    largest = groups.abs().amax(dim=-1).clamp(min=_SMALLEST_SCALE)
    scales = largest / torch.full_like(
        largest, _LARGEST_E4M3
    )  # a tensor: CUDA multiplies by a number's inverse
    latent = (groups / scales.unsqueeze(-1)).to(torch.float8_e4m3fn).flatten(-2)
    rope = rows[..., latent_dim:].to(torch.bfloat16).contiguous()
    return torch.cat([part.view(torch.uint8) for part in (latent, scales, rope)], dim=-1)


def dequantise_rows(rows: torch.Tensor, latent_dim: int) -> torch.Tensor:
    """Return what ``attend`` reads in quantised ``rows``: bfloat16 ``[..., width]``."""
    scales_end = latent_dim + 4 * (latent_dim // SCALE_GROUP)
    latent = rows[..., :latent_dim].contiguous().view(torch.float8_e4m3fn).float()
    scales = rows[..., latent_dim:scales_end].contiguous().view(torch.float32)
    latent = latent.view(*scales.shape, SCALE_GROUP) * scales.unsqueeze(-1)
    rope = rows[..., scales_end:].contiguous().view(torch.bfloat16)
    return torch.cat((latent.flatten(-2).to(torch.bfloat16), rope), dim=-1)
