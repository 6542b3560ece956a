"""Rotation of pairs on CUDA, for the kernels that need it, and of all of a token's queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs

_LANES = 1024


@dataclass(frozen=True)
class IndexShape:
    """The indexer's heads, or none of them."""

    heads: int
    dim: int
    interleaved: bool
    """Whether its rotary pairs are neighbours."""


def rotate_queries(
    up: torch.Tensor,
    query: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    index: IndexShape,
) -> torch.Tensor:
    """Rotate what ``q_b`` and the indexer's ``wq_b`` made of the query latent.

    ``up [tokens, heads · (nope + rope) + index_heads · index_dim]``. Writes the roped part of ``query [tokens, heads,
    kv_rank + rope]`` in place; returns the index query ``[tokens, index_heads, index_dim]``.
    """
    tokens, heads, width = query.shape
    rope = 2 * cos.shape[1]
    head_dim = (up.shape[1] - index.heads * index.dim) // heads
    index_query = query.new_empty(tokens, index.heads, index.dim)
    half_lanes = triton.next_power_of_2(rope // 2)
    head_block = max(1, min(_LANES // half_lanes, triton.next_power_of_2(heads)))
    blocks, index_blocks = triton.cdiv(heads, head_block), triton.cdiv(index.heads, head_block)
    if tokens:
        _rotate_queries_kernel[(tokens, blocks + index_blocks)](
            up,
            query,
            index_query,
            cos,
            sin,
            COLUMNS=up.shape[1],
            HEADS=heads,
            HEAD_DIM=head_dim,
            WIDTH=width,
            HALF=rope // 2,
            INDEX_HEADS=index.heads,
            INDEX_DIM=index.dim,
            INTERLEAVED=index.interleaved,
            BLOCKS=blocks,
            HEAD_BLOCK=head_block,
            HALF_LANES=half_lanes,
            REST_LANES=triton.next_power_of_2(max(index.dim - rope, 1)),
            enable_fp_fusion=False,  # a fused multiply-add would skip a rounding
            **OVERLAPPED,
        )
    return index_query


@triton.jit
def rotate_pair(first, second, cos, sin, kind: tl.constexpr):
    """Rotate pairs of fp32 values that are exact in ``kind``, rounding after each operation as ``kind`` would."""
    cos = cos.to(kind).to(tl.float32)
    sin = sin.to(kind).to(tl.float32)
    one = (first * cos).to(kind).to(tl.float32) - (second * sin).to(kind).to(tl.float32)
    two = (second * cos).to(kind).to(tl.float32) + (first * sin).to(kind).to(tl.float32)
    return one.to(kind), two.to(kind)


@triton.jit
def _rotate_queries_kernel(
    up,
    query,
    index_query,
    cos,
    sin,
    COLUMNS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    HALF: tl.constexpr,
    INDEX_HEADS: tl.constexpr,
    INDEX_DIM: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    BLOCKS: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    HALF_LANES: tl.constexpr,
    REST_LANES: tl.constexpr,
    PDL: tl.constexpr,
):
    """Axis 1: blocks of attention heads, then blocks of index heads."""
    wait_for_inputs(PDL)
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    kind: tl.constexpr = query.dtype.element_ty
    up += token * COLUMNS
    pair = tl.arange(0, HALF_LANES)[None, :]
    c = tl.load(cos + token * HALF + pair, mask=pair < HALF, other=0.0)
    s = tl.load(sin + token * HALF + pair, mask=pair < HALF, other=0.0)
    if block < BLOCKS:
        head = block * HEAD_BLOCK + tl.arange(0, HEAD_BLOCK)[:, None]
        _rotate_heads(
            up + head * HEAD_DIM + HEAD_DIM - 2 * HALF,
            query + (token * HEADS + head) * WIDTH + WIDTH - 2 * HALF,
            pair,
            head < HEADS,
            c,
            s,
            HALF,
            True,
            kind,
        )
    elif INDEX_HEADS > 0:
        index_head = (block - BLOCKS) * HEAD_BLOCK + tl.arange(0, HEAD_BLOCK)[:, None]
        source = up + HEADS * HEAD_DIM + index_head * INDEX_DIM
        target = index_query + (token * INDEX_HEADS + index_head) * INDEX_DIM
        _rotate_heads(source, target, pair, index_head < INDEX_HEADS, c, s, HALF, INTERLEAVED, kind)
        rest = 2 * HALF + tl.arange(0, REST_LANES)[None, :]
        kept = (index_head < INDEX_HEADS) & (rest < INDEX_DIM)
        tl.store(target + rest, tl.load(source + rest, mask=kept, other=0.0), mask=kept)


@triton.jit
def _rotate_heads(
    source,
    target,
    pair,
    there,
    cos,
    sin,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    kind: tl.constexpr,
):
    """Rotate ``2 · HALF`` elements at each of ``source [heads, 1]`` into ``target [heads, 1]``."""
    inside = there & (pair < HALF)
    at_first = 2 * pair if INTERLEAVED else pair
    at_second = 2 * pair + 1 if INTERLEAVED else HALF + pair
    first = tl.load(source + at_first, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + at_second, mask=inside, other=0.0).to(tl.float32)
    one, two = rotate_pair(first, second, cos, sin, kind)
    tl.store(target + pair, one, mask=inside)
    tl.store(target + HALF + pair, two, mask=inside)
