"""Grouped matrix products of a mixture of experts, on CUDA, over tiles of rows that share an expert.

A tile reads its expert's weights once; with few rows a tile, both products are bound by reading weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.expert_tiles import ExpertTiles
from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs


@dataclass(frozen=True)
class TileShape:
    """How a grouped product is cut: columns and depth of a tile, warps, and stages of the pipeline."""

    columns: int
    depth: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Tiling:
    """How both grouped products are cut; a tile has the same rows in both."""

    rows: int
    up: TileShape
    down: TileShape


_FEW = Tiling(16, TileShape(64, 128, 4, 3), TileShape(128, 128, 4, 3))
_SOME = Tiling(64, TileShape(64, 64, 4, 4), TileShape(128, 64, 4, 4))
_MANY = Tiling(128, TileShape(128, 64, 8, 4), TileShape(256, 64, 8, 3))


def tiling(num_pairs: int, num_experts: int) -> Tiling:
    """Cut by the rows that an expert has on average."""
    average = num_pairs // num_experts
    return _FEW if average <= 12 else _SOME if average <= 64 else _MANY


def gated_up(x: torch.Tensor, weight: torch.Tensor, tiles: ExpertTiles, shape: TileShape) -> torch.Tensor:
    """``silu(gate(x)) · up(x)`` of every pair, in sorted order: ``[pairs, width]``.

    ``x [tokens, hidden]``; ``weight [experts, 2 · width, hidden]``, gate above up.
    """
    width = weight.shape[1] // 2
    out = x.new_empty(len(tiles.pairs), width)
    grid = (len(tiles.expert) * triton.cdiv(width, shape.columns),)
    _gated_up_kernel[grid](
        x,
        weight,
        out,
        tiles.pairs,
        tiles.expert,
        tiles.first,
        tiles.rows,
        WIDTH=width,
        HIDDEN=x.shape[1],
        CHOICES=tiles.choices,
        ROWS=tiles.block_rows,
        COLUMNS=shape.columns,
        DEPTH=shape.depth,
        num_warps=shape.warps,
        num_stages=shape.stages,
        **OVERLAPPED,
    )
    return out


def down(x: torch.Tensor, weight: torch.Tensor, tiles: ExpertTiles, shape: TileShape) -> torch.Tensor:
    """Each sorted row of ``x [pairs, width]`` through its expert's ``weight [experts, hidden, width]``.

    Returns ``[tokens, choices, hidden]``: back in the order of the tokens.
    """
    hidden = weight.shape[1]
    out = x.new_empty(len(x) // tiles.choices, tiles.choices, hidden)
    grid = (len(tiles.expert) * triton.cdiv(hidden, shape.columns),)
    _down_kernel[grid](
        x,
        weight,
        out,
        tiles.pairs,
        tiles.expert,
        tiles.first,
        tiles.rows,
        HIDDEN=hidden,
        WIDTH=x.shape[1],
        ROWS=tiles.block_rows,
        COLUMNS=shape.columns,
        DEPTH=shape.depth,
        num_warps=shape.warps,
        num_stages=shape.stages,
        **OVERLAPPED,
    )
    return out


@triton.jit
def _gated_up_kernel(
    x,
    weight,
    out,
    pairs,
    tile_expert,
    tile_first,
    tile_rows,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    CHOICES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PDL: tl.constexpr,
):
    wait_for_inputs(PDL)
    blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    tile = tl.program_id(0) // blocks
    expert = tl.load(tile_expert + tile)
    if expert < 0:
        return
    first = tl.load(tile_first + tile)
    row = tl.arange(0, ROWS)
    there = row < tl.load(tile_rows + tile)
    column = (tl.program_id(0) % blocks) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    token = tl.load(pairs + first + row, mask=there, other=0) // CHOICES
    x_at = x + token[:, None].to(tl.int64) * HIDDEN + depth[None, :]
    gate_at = (
        weight
        + expert.to(tl.int64) * (2 * WIDTH * HIDDEN)
        + tl.minimum(column, WIDTH - 1)[:, None] * HIDDEN
        + depth[None, :]
    )
    gate = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    up = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for start in range(0, HIDDEN, DEPTH):
        if HIDDEN % DEPTH == 0:
            a = tl.load(x_at + start, mask=there[:, None], other=0.0)
            g = tl.load(gate_at + start)
            u = tl.load(gate_at + WIDTH * HIDDEN + start)
        else:
            inside = depth[None, :] < HIDDEN - start
            a = tl.load(x_at + start, mask=there[:, None] & inside, other=0.0)
            g = tl.load(gate_at + start, mask=inside, other=0.0)
            u = tl.load(gate_at + WIDTH * HIDDEN + start, mask=inside, other=0.0)
        gate = tl.dot(a, g.T, gate)
        up = tl.dot(a, u.T, up)
    kind = out.dtype.element_ty
    wide = gate.to(kind).to(tl.float32)
    silu = (wide / (1.0 + tl.exp(-wide))).to(kind).to(tl.float32)
    result = (silu * up.to(kind).to(tl.float32)).to(kind)
    out_at = out + (first + row)[:, None].to(tl.int64) * WIDTH + column[None, :]
    tl.store(out_at, result, mask=there[:, None] & (column < WIDTH)[None, :])


@triton.jit
def _down_kernel(
    x,
    weight,
    out,
    pairs,
    tile_expert,
    tile_first,
    tile_rows,
    HIDDEN: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PDL: tl.constexpr,
):
    wait_for_inputs(PDL)
    blocks: tl.constexpr = tl.cdiv(HIDDEN, COLUMNS)
    tile = tl.program_id(0) // blocks
    expert = tl.load(tile_expert + tile)
    if expert < 0:
        return
    first = tl.load(tile_first + tile)
    row = tl.arange(0, ROWS)
    there = row < tl.load(tile_rows + tile)
    column = (tl.program_id(0) % blocks) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    x_at = x + (first + row)[:, None].to(tl.int64) * WIDTH + depth[None, :]
    weight_at = (
        weight
        + expert.to(tl.int64) * (HIDDEN * WIDTH)
        + tl.minimum(column, HIDDEN - 1)[:, None] * WIDTH
        + depth[None, :]
    )
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for start in range(0, WIDTH, DEPTH):
        if WIDTH % DEPTH == 0:
            a = tl.load(x_at + start, mask=there[:, None], other=0.0)
            w = tl.load(weight_at + start)
        else:
            inside = depth[None, :] < WIDTH - start
            a = tl.load(x_at + start, mask=there[:, None] & inside, other=0.0)
            w = tl.load(weight_at + start, mask=inside, other=0.0)
        total = tl.dot(a, w.T, total)
    pair = tl.load(pairs + first + row, mask=there, other=0)
    out_at = out + pair[:, None].to(tl.int64) * HIDDEN + column[None, :]
    tl.store(out_at, total.to(out.dtype.element_ty), mask=there[:, None] & (column < HIDDEN)[None, :])
