"""``attend`` on the GPU: which kernel, which tiles and how many shares, by fixed rules; then one or two launches.

The rules see shapes, types and the device's size only, never what the tensors hold: the same shapes run the same
configuration and give the same bits, and a launch may be captured in a CUDA graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
import triton

from hisparse_engine.ops.gpu.attention_kernels import add_shares, attend_share
from hisparse_engine.ops.gpu.attention_quantised import GROUP, attend_share_quantised, views

_SMALLEST_DOT = 16  # what tl.dot takes in every dimension
_SHARE_COST = 3  # what starting and finishing a share costs, in tiles
_MOST_SHARES = 64
_SUM_ELEMENTS = 8192  # that one program of the sum over shares holds
_GLUON_VERSION = "3.6."  # of Triton: its Gluon is experimental, and the kernel written in it is for this one


@dataclass(frozen=True)
class Tiling:
    """How a launch is cut up."""

    block_heads: int
    block_entries: int
    num_warps: int
    num_stages: int
    """Of Triton's pipeline, where n keep (n - 1) // 2 tiles of rows in flight; the Hopper kernels' buffers."""
    per_processor: int
    """How many programs a multiprocessor runs at once."""
    kernel: Literal["portable", "quantised", "hopper", "hopper_few", "hopper_fp8"] = "portable"


class Device(NamedTuple):
    """What the rules know of a device."""

    processors: int
    is_hopper: bool


def attend(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, *, scale: float, latent_dim: int
) -> torch.Tensor:
    """See :meth:`hisparse_engine.ops.interface.Operations.attend`; uint8 ``rows`` are quantised ones."""
    (tokens, heads, width), k = query.shape, slots.shape[1]
    if tokens == 0 or k == 0:
        return query.new_zeros((tokens, heads, latent_dim))
    device = describe_device(query.device)
    tiling = choose_tiling(heads, width, latent_dim, k, rows.dtype, device)
    if tiling.kernel == "hopper_few":  # until it has been seen on a device
        tiling = Tiling(16, 32, 4, 5, 2)
    shares = choose_shares(tokens, heads, k, tiling, device)
    return attend_tiled(query, rows, slots, scale, latent_dim, tiling, shares)


def choose_tiling(
    heads: int, width: int, latent_dim: int, k: int, dtype: torch.dtype, device: Device
) -> Tiling:
    """Return the tiles for ``heads``: few heads are a matter of bytes in flight, many of the matrix units."""
    if dtype == torch.float32:
        return Tiling(16, 16, 4, 2, 1)
    if dtype == torch.uint8:
        return Tiling(16 if heads <= 32 else 64, 32, 8, 1, 1, "quantised")
    if device.is_hopper and dtype == torch.bfloat16 and (latent_dim, width, k % 64) == (512, 576, 0):
        if heads <= 32:
            return Tiling(16 if heads <= 16 else 32, 64, 4, 2, 1, "hopper_few")
        return Tiling(64, 32, 4, 4, 1, "hopper")
    if heads <= 32:
        return Tiling(16, 32, 4, 5, 2)
    return Tiling(64, 64, 8, 3, 1)


def choose_shares(tokens: int, heads: int, k: int, tiling: Tiling, device: Device) -> int:
    """Return into how many shares each token's slots are cut: as few as keep the device busy for the least time."""
    tiles = triton.cdiv(k, tiling.block_entries)
    programs = tokens * triton.cdiv(heads, tiling.block_heads)
    at_once = device.processors * tiling.per_processor

    def cost(shares: int) -> int:
        turns = triton.cdiv(programs * shares, at_once)
        return int(turns * (triton.cdiv(tiles, shares) + _SHARE_COST))

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
    kernel, options = _quantised_kernel(tiling, width - latent_dim, shares)
    kernel[(tokens * shares * triton.cdiv(heads, tiling.block_heads),)](
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
        STRIDES=(row_bytes, row_bytes // 4, row_bytes // 2),
        SHARE_TILES=tiles,
        BLOCK_H=tiling.block_heads,
        BLOCK_N=tiling.block_entries,
        num_warps=tiling.num_warps,
        **options,
    )


def _quantised_kernel(tiling: Tiling, rope_dim: int, shares: int) -> tuple[Any, dict[str, int]]:
    if tiling.kernel == "quantised":
        return attend_share_quantised, {"GROUP": GROUP, "BLOCK_R": _dot_size(rope_dim), "num_stages": 1}
    from hisparse_engine.ops.gpu.attention_hopper_fp8 import attend_share_fp8

    return attend_share_fp8, {"BUFFERS": tiling.num_stages, "SPLIT": shares > 1}


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
        HEADS=heads,
        K=slots.shape[1],
        LATENT=latent_dim,
        WIDTH=width,
        SHARE_TILES=tiles,
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
    "hopper_fp8": _run_quantised,
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
        HEADS=heads,
        LATENT=latent_dim,
        BLOCK_S=block_shares,
        BLOCK_L=block,
        LINKED=linked,
        num_warps=4,
        **({"launch_pdl": True} if linked else {}),
    )


def _dot_size(size: int) -> int:
    return max(_SMALLEST_DOT, int(triton.next_power_of_2(size)))


@lru_cache
def describe_device(device: torch.device) -> Device:
    """Return what the rules need; on the CPU, where Triton's interpreter runs, the numbers of nothing in particular."""
    if device.type != "cuda":
        return Device(4, is_hopper=False)
    properties = torch.cuda.get_device_properties(device)
    has_gluon = triton.__version__.startswith(_GLUON_VERSION)
    return Device(properties.multi_processor_count, is_hopper=properties.major == 9 and has_gluon)
