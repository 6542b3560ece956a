"""Which rows go through which expert, on CUDA: (token, choice) pairs sorted by expert and cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs

_SORT_BLOCKS = 256, 4096
"""For few pairs, and for many: each size is a kernel of its own."""


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
        BLOCK=_SORT_BLOCKS[num_pairs > _SORT_BLOCKS[0]],
        BLOCK_ROWS=block_rows,
        **OVERLAPPED,
    )
    return ExpertTiles(pairs, expert, first, rows, block_rows, experts.shape[1])


@triton.jit(do_not_specialize=["num_pairs", "capacity"])
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
    PDL: tl.constexpr,
):
    """One program an expert: every program counts all choices, and places its own."""
    wait_for_inputs(PDL)
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
