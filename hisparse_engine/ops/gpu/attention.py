"""``attend`` on the GPU: which kernel, which tiles and how many shares, by fixed rules; then one or two launches.

The rules see shapes, the type and the device's size only, never what the tensors hold: the same shapes run the same
configuration and give the same bits, and a launch may be captured in a CUDA graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import triton

from hisparse_engine.ops.gpu.attention_kernels import add_shares, attend_share

_SMALLEST_DOT = 16  # what tl.dot takes in every dimension
_SHARE_COST = 3  # what starting and finishing a share costs, in tiles
_MOST_SHARES = 64
_CPU_PROCESSORS = 4  # under Triton's interpreter


@dataclass(frozen=True)
class Tiling:
    """How a launch is cut up."""

    block_heads: int
    block_entries: int
    num_warps: int
    num_stages: int
    """Of Triton's pipeline; a row's address is itself loaded, so n stages keep (n - 1) // 2 tiles of rows in flight."""
    per_processor: int
    """How many programs a multiprocessor runs at once."""


def attend(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, *, scale: float, latent_dim: int
) -> torch.Tensor:
    """See :meth:`hisparse_engine.ops.interface.Operations.attend`."""
    (tokens, heads, _), k = query.shape, slots.shape[1]
    if tokens == 0 or k == 0:
        return query.new_zeros((tokens, heads, latent_dim))
    tiling = choose_tiling(heads, query.dtype)
    shares = choose_shares(tokens, heads, k, tiling, _processors(query.device))
    return attend_tiled(query, rows, slots, scale, latent_dim, tiling, shares)


def choose_tiling(heads: int, dtype: torch.dtype) -> Tiling:
    """Return the tiles for ``heads``: few heads are a matter of bytes in flight, many of the matrix units."""
    if dtype == torch.float32:
        return Tiling(16, 16, 4, 2, 1)
    if heads <= 32:
        return Tiling(16, 32, 4, 5, 2)
    return Tiling(64, 64, 8, 3, 1)


def choose_shares(tokens: int, heads: int, k: int, tiling: Tiling, processors: int) -> int:
    """Return into how many shares each token's slots are cut: as few as keep the whole device busy for the least time."""
    tiles = triton.cdiv(k, tiling.block_entries)
    programs = tokens * triton.cdiv(heads, tiling.block_heads)
    at_once = processors * tiling.per_processor

    def cost(shares: int) -> int:
        return triton.cdiv(programs * shares, at_once) * (triton.cdiv(tiles, shares) + _SHARE_COST)

    return min(range(1, min(tiles, _MOST_SHARES) + 1), key=cost)


def attend_tiled(
    query: torch.Tensor,
    rows: torch.Tensor,
    slots: torch.Tensor,
    scale: float,
    latent_dim: int,
    tiling: Tiling,
    shares: int,
) -> torch.Tensor:
    """Attend with a given cut; what :func:`attend` does once it has chosen."""
    (tokens, heads, width), k = query.shape, slots.shape[1]
    tiles = triton.cdiv(triton.cdiv(k, tiling.block_entries), shares)
    shares = triton.cdiv(k, tiles * tiling.block_entries)  # no share is empty
    out = query.new_empty((tokens, heads, latent_dim))
    parts, sums = out, out
    if shares > 1:
        parts = query.new_empty((tokens, shares, heads, latent_dim), dtype=torch.float32)
        sums = query.new_empty((tokens, shares, heads), dtype=torch.float32)
    head_blocks = triton.cdiv(heads, tiling.block_heads)
    attend_share[(tokens * shares * head_blocks,)](
        query.contiguous(),
        rows,
        slots,
        parts,
        sums,
        scale * math.log2(math.e),
        shares,
        HEADS=heads,
        K=k,
        LATENT=latent_dim,
        WIDTH=width,
        SHARE_TILES=tiles,
        BLOCK_H=tiling.block_heads,
        BLOCK_N=tiling.block_entries,
        BLOCK_L=_dot_size(latent_dim),
        BLOCK_R=_dot_size(width - latent_dim),
        PRECISION="tf32x3",
        num_warps=tiling.num_warps,
        num_stages=tiling.num_stages,
    )
    if shares > 1:
        block = min(128, triton.next_power_of_2(latent_dim))
        add_shares[(tokens * heads, triton.cdiv(latent_dim, block))](
            parts,
            sums,
            out,
            shares,
            HEADS=heads,
            LATENT=latent_dim,
            BLOCK_S=triton.next_power_of_2(shares),
            BLOCK_L=block,
            num_warps=4,
        )
    return out


def _dot_size(size: int) -> int:
    return max(_SMALLEST_DOT, triton.next_power_of_2(size))


@lru_cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _CPU_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count
