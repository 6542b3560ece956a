"""``attend`` on the GPU: one launch over the shares of every token's slots, and one that adds the shares.

Nothing is read back or tuned at run time: a launch may be captured in a CUDA graph.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton

from hisparse_engine.ops.gpu.attention_kernels import add_shares, attend_share
from hisparse_engine.ops.gpu.attention_quantised import GROUP, attend_share_quantised, views
from hisparse_engine.ops.gpu.attention_rules import Tiling, choose_shares, choose_tiling, describe_device

_SMALLEST_DOT = 16  # what tl.dot takes in every dimension
_SUM_ELEMENTS = 8192  # that one program of the sum over shares holds


def attend(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, *, scale: float, latent_dim: int
) -> torch.Tensor:
    """See :meth:`hisparse_engine.ops.interface.Operations.attend`; uint8 ``rows`` are quantised ones."""
    (tokens, heads, width), k = query.shape, slots.shape[1]
    if tokens == 0 or k == 0:
        return query.new_zeros((tokens, heads, latent_dim))
    device = describe_device(query.device)
    tiling = choose_tiling(heads, width, latent_dim, k, rows.dtype, device)
    shares = choose_shares(tokens, heads, k, tiling, device)
    return attend_tiled(query, rows, slots, scale, latent_dim, tiling, shares)


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
    (tokens, heads, _), k = query.shape, slots.shape[1]
    tiles = triton.cdiv(triton.cdiv(k, tiling.block_entries), shares)
    shares = triton.cdiv(k, tiles * tiling.block_entries)  # no share is empty
    out = query.new_empty((tokens, heads, latent_dim))
    parts, sums = out, out
    if shares > 1:
        parts = query.new_empty((tokens, shares, heads, latent_dim), dtype=torch.float32)
        sums = query.new_empty((tokens, shares, heads), dtype=torch.float32)
    tensors = query.contiguous(), rows, slots, parts, sums
    run = _RUNS[tiling.kernel]
    run(tensors, scale * math.log2(math.e), latent_dim, tiling, shares, tiles)
    if shares > 1:
        _add_shares(parts, sums, out)
    return out


def _run(
    tensors: tuple[torch.Tensor, ...], scale: float, latent_dim: int, tiling: Tiling, shares: int, tiles: int
) -> None:
    query, _, slots, _, _ = tensors
    tokens, heads, width = query.shape
    attend_share[(tokens * shares * triton.cdiv(heads, tiling.block_heads),)](
        *tensors,
        scale,
        shares,
        HEADS=heads,
        K=slots.shape[1],
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


def _run_quantised(
    tensors: tuple[torch.Tensor, ...], scale: float, latent_dim: int, tiling: Tiling, shares: int, tiles: int
) -> None:
    query, rows, slots, out, sums = tensors
    (tokens, heads, width), row_bytes = query.shape, rows.shape[1]
    attend_share_quantised[(tokens * shares * triton.cdiv(heads, tiling.block_heads),)](
        query,
        *views(rows),
        slots,
        out,
        sums,
        scale,
        shares,
        HEADS=heads,
        K=slots.shape[1],
        LATENT=latent_dim,
        ROPE=width - latent_dim,
        GROUP=GROUP,
        STRIDES=(row_bytes, row_bytes // 4, row_bytes // 2),
        SHARE_TILES=tiles,
        BLOCK_H=tiling.block_heads,
        BLOCK_N=tiling.block_entries,
        BLOCK_R=_dot_size(width - latent_dim),
        num_warps=tiling.num_warps,
        num_stages=tiling.num_stages,
    )


def _run_hopper(
    tensors: tuple[torch.Tensor, ...], scale: float, latent_dim: int, tiling: Tiling, shares: int, tiles: int
) -> None:
    query, _, slots, _, _ = tensors
    tokens, heads, width = query.shape
    kernel, options = _hopper_kernel(tiling)
    kernel[(tokens * shares * triton.cdiv(heads, tiling.block_heads),)](
        *tensors,
        scale,
        shares,
        tiles,
        HEADS=heads,
        K=slots.shape[1],
        LATENT=latent_dim,
        WIDTH=width,
        BLOCK_H=tiling.block_heads,
        BLOCK_N=tiling.block_entries,
        BUFFERS=tiling.num_stages,
        SPLIT=shares > 1,
        num_warps=tiling.num_warps,
        **options,
    )


def _hopper_kernel(tiling: Tiling) -> tuple[Any, dict[str, int]]:
    """Import at the first use: Gluon is not in every Triton."""
    if tiling.kernel == "hopper_few":
        from hisparse_engine.ops.gpu.attention_hopper_few import attend_share_few

        return attend_share_few, {}
    from hisparse_engine.ops.gpu.attention_hopper import attend_share_hopper

    return attend_share_hopper, {"WEIGHT_BUFFERS": 64 // tiling.block_entries}


_RUNS = {
    "portable": _run,
    "quantised": _run_quantised,
    "hopper": _run_hopper,
    "hopper_few": _run_hopper,
}


def _add_shares(parts: torch.Tensor, sums: torch.Tensor, out: torch.Tensor) -> None:
    tokens, shares, heads, latent_dim = parts.shape
    block_shares = triton.next_power_of_2(shares)
    block = min(triton.next_power_of_2(latent_dim), _SUM_ELEMENTS // block_shares)
    linked = out.device.type == "cuda"  # launched while the shares still run, and waits for them
    add_shares[(tokens * heads, triton.cdiv(latent_dim, block))](
        parts,
        sums,
        out,
        shares,
        heads,
        LATENT=latent_dim,
        BLOCK_S=block_shares,
        BLOCK_L=block,
        LINKED=linked,
        num_warps=4,
        **({"launch_pdl": True} if linked else {}),
    )


def _dot_size(size: int) -> int:
    return max(_SMALLEST_DOT, int(triton.next_power_of_2(size)))
