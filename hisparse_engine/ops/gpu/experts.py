"""Mixture of experts on CUDA: rows sorted by expert, then two grouped matrix products over them.

Tiles of at most ``block_rows`` rows of one expert are listed on the device, so that no shape depends on the routing.
A tile reads its expert's weights once; with few rows a tile, both products are bound by reading weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

_SORT_BLOCK = 4096


@dataclass(frozen=True)
class ExpertTiles:
    """(token, choice) pairs in the order of their experts, cut into tiles; a pair is ``token * choices + choice``."""

    pairs: torch.Tensor
    """int32 ``[tokens * choices]``: the pair in each sorted row."""
    expert: torch.Tensor
    """int32 ``[capacity]``: each tile's expert; -1 for a tile that is not there."""
    first: torch.Tensor
    """int32 ``[capacity]``: its first sorted row."""
    rows: torch.Tensor
    """int32 ``[capacity]``: how many rows it has."""
    block_rows: int
    """How many rows a tile may have."""
    choices: int
    """Experts of each token."""


@dataclass(frozen=True)
class TileShape:
    """How a grouped product is cut: columns and depth of a tile, warps, and stages of the pipeline."""

    columns: int
    depth: int
    warps: int
    stages: int


def sort_by_expert(experts: torch.Tensor, num_experts: int, block_rows: int) -> ExpertTiles:
    """Sort the choices ``experts`` int32 ``[tokens, choices]``, stably, and cut them into tiles."""
    num_pairs, device = experts.numel(), experts.device
    used = min(num_experts, num_pairs)
    capacity = max(1, (num_pairs + (block_rows - 1) * used) // block_rows)
    pairs, expert, first, rows = (
        torch.empty(size, dtype=torch.int32, device=device)
        for size in (num_pairs, capacity, capacity, capacity)
    )
    _sort_kernel[(num_experts,)](
        experts,
        pairs,
        expert,
        first,
        rows,
        num_pairs,
        capacity,
        EXPERTS=triton.next_power_of_2(num_experts),
        BLOCK=min(_SORT_BLOCK, max(32, triton.next_power_of_2(num_pairs))),
        BLOCK_ROWS=block_rows,
    )
    return ExpertTiles(pairs, expert, first, rows, block_rows, experts.shape[1])


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
    )
    return out


@triton.jit
def _sort_kernel(
    experts,
    pairs,
    tile_expert,
    tile_first,
    tile_rows,
    num_pairs,
    capacity,
    EXPERTS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
):
    """One program an expert: every program counts all choices, and places its own."""
    mine = tl.program_id(0)
    bins = tl.arange(0, EXPERTS)
    lanes = tl.arange(0, BLOCK)
    counts = tl.zeros([EXPERTS], dtype=tl.int32)
    start = 0
    while start < num_pairs:
        here = start + lanes < num_pairs
        chosen = tl.load(experts + start + lanes, mask=here, other=0)
        counts += tl.histogram(chosen, EXPERTS, mask=here)
        start += BLOCK
    tiles = (counts + BLOCK_ROWS - 1) // BLOCK_ROWS
    first = tl.sum(tl.where(bins < mine, counts, 0))
    count = tl.sum(tl.where(bins == mine, counts, 0))
    first_tile = tl.sum(tl.where(bins < mine, tiles, 0))
    done = 0
    while done < count:
        tl.store(tile_expert + first_tile, mine)
        tl.store(tile_first + first_tile, first + done)
        tl.store(tile_rows + first_tile, tl.minimum(count - done, BLOCK_ROWS))
        first_tile += 1
        done += BLOCK_ROWS
    if mine == 0:
        start = tl.sum(tiles)
        while start < capacity:
            tl.store(tile_expert + start + lanes, -1, mask=start + lanes < capacity)
            start += BLOCK
    place = first - 1
    start = 0
    while start < num_pairs:
        chosen = tl.load(experts + start + lanes, mask=start + lanes < num_pairs, other=-1)
        hit = (chosen == mine).to(tl.int32)
        tl.store(pairs + place + tl.cumsum(hit, 0), start + lanes, mask=hit > 0)
        place += tl.sum(hit)
        start += BLOCK


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
):
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
):
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
