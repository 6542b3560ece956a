"""From a token's stacked down-projections to its query latent, KV row, index key and head weights, on CUDA.

Every value is rounded to the model's dtype where the layer-by-layer computation rounds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs
from hisparse_engine.ops.gpu.rotation import IndexShape, rotate_pair


@dataclass(frozen=True)
class LatentNorms:
    """Weights of the norms behind the down-projections; ``key`` and ``key_bias`` are None without an indexer."""

    query: torch.Tensor
    """``[q_rank]``"""
    row: torch.Tensor
    """``[kv_rank]``"""
    key: torch.Tensor | None
    """``[index_dim]``"""
    key_bias: torch.Tensor | None
    """``[index_dim]``"""
    eps: float


def split_latents(
    projected: torch.Tensor,
    bias: torch.Tensor | None,
    cos: torch.Tensor,
    sin: torch.Tensor,
    norms: LatentNorms,
    index: IndexShape,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (query latent ``[tokens, q_rank]``, KV row ``[tokens, kv_rank + rope]``, index key, head weights fp32).

    ``projected`` fp32 ``[tokens, splits, q_rank + kv_rank + rope + index_dim + parts · heads]`` is to be summed over
    its splits; ``bias`` fp32 ``[q_rank + kv_rank + rope]``; ``cos, sin`` fp32 ``[tokens, rope / 2]``. A head weight is
    the sum of its parts, over ``sqrt(heads)``. Without an indexer the last two are empty.
    """
    tokens, splits, columns = projected.shape
    q_rank, kv_rank, rope = len(norms.query), len(norms.row), 2 * cos.shape[1]
    parts = (columns - q_rank - kv_rank - rope - index.dim) // index.heads if index.heads else 0
    q_latent = norms.query.new_empty(tokens, q_rank)
    row = norms.query.new_empty(tokens, kv_rank + rope)
    key = norms.query.new_empty(tokens, index.dim)
    weights = projected.new_empty(tokens, index.heads)
    if tokens:
        _split_latents_kernel[(tokens, 3 if index.heads else 2)](
            projected,
            bias,
            cos,
            sin,
            norms.query,
            norms.row,
            norms.key,
            norms.key_bias,
            q_latent,
            row,
            key,
            weights,
            norms.eps,
            index.heads**-0.5 if index.heads else 1.0,
            SPLITS=splits,
            COLUMNS=columns,
            Q_RANK=q_rank,
            KV_RANK=kv_rank,
            HALF=rope // 2,
            DIM=index.dim,
            HEADS=index.heads,
            PARTS=parts,
            INTERLEAVED=index.interleaved,
            Q_LANES=triton.next_power_of_2(q_rank),
            KV_LANES=triton.next_power_of_2(kv_rank),
            HALF_LANES=triton.next_power_of_2(rope // 2),
            DIM_LANES=triton.next_power_of_2(max(index.dim, 1)),
            HEAD_LANES=triton.next_power_of_2(max(index.heads, 1)),
            enable_fp_fusion=False,  # a fused multiply-add would skip a rounding
            **OVERLAPPED,
        )
    return q_latent, row, key, weights


@triton.jit
def _split_latents_kernel(
    projected,
    bias,
    cos,
    sin,
    query_norm,
    row_norm,
    key_norm,
    key_norm_bias,
    q_latent,
    row,
    key,
    weights,
    eps,
    head_scale,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    Q_RANK: tl.constexpr,
    KV_RANK: tl.constexpr,
    HALF: tl.constexpr,
    DIM: tl.constexpr,
    HEADS: tl.constexpr,
    PARTS: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    Q_LANES: tl.constexpr,
    KV_LANES: tl.constexpr,
    HALF_LANES: tl.constexpr,
    DIM_LANES: tl.constexpr,
    HEAD_LANES: tl.constexpr,
    PDL: tl.constexpr,
):
    """Axis 1: 0 makes the query latent, 1 the KV row, 2 the index key and the head weights."""
    wait_for_inputs(PDL)
    token = tl.program_id(0).to(tl.int64)
    kind: tl.constexpr = row.dtype.element_ty
    projected += token * SPLITS * COLUMNS
    pair = tl.arange(0, HALF_LANES)
    c = tl.load(cos + token * HALF + pair, mask=pair < HALF, other=0.0)
    s = tl.load(sin + token * HALF + pair, mask=pair < HALF, other=0.0)
    if tl.program_id(1) == 0:
        _rms(
            projected,
            bias,
            0,
            query_norm,
            q_latent + token * Q_RANK,
            eps,
            Q_RANK,
            Q_LANES,
            SPLITS,
            COLUMNS,
            kind,
        )
    elif tl.program_id(1) == 1:
        row += token * (KV_RANK + 2 * HALF)
        _rms(projected, bias, Q_RANK, row_norm, row, eps, KV_RANK, KV_LANES, SPLITS, COLUMNS, kind)
        _row_rope(projected, bias, Q_RANK + KV_RANK, row + KV_RANK, pair, c, s, HALF, SPLITS, COLUMNS, kind)
    elif HEADS > 0:
        projected += Q_RANK + KV_RANK + 2 * HALF
        key += token * DIM
        _index_key(
            projected,
            key_norm,
            key_norm_bias,
            key,
            pair,
            c,
            s,
            eps,
            DIM,
            HALF,
            DIM_LANES,
            INTERLEAVED,
            SPLITS,
            COLUMNS,
            kind,
        )
        _head_weights(
            projected + DIM, weights + token * HEADS, head_scale, HEADS, PARTS, HEAD_LANES, SPLITS, COLUMNS
        )


@triton.jit
def _rms(
    projected,
    bias,
    start,
    weight,
    out,
    eps,
    SIZE: tl.constexpr,
    LANES: tl.constexpr,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    kind: tl.constexpr,
):
    lane = tl.arange(0, LANES)
    inside = lane < SIZE
    value = _projected(projected, bias, start + lane, inside, SPLITS, COLUMNS, kind)
    scale = tl.rsqrt(tl.sum(value * value, axis=0) / SIZE + eps)
    unit = (value * scale).to(kind).to(tl.float32)
    normed = unit * tl.load(weight + lane, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + lane, normed.to(kind), mask=inside)


@triton.jit
def _row_rope(
    projected,
    bias,
    start,
    out,
    pair,
    cos,
    sin,
    HALF: tl.constexpr,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    kind: tl.constexpr,
):
    inside = pair < HALF
    first = _projected(projected, bias, start + 2 * pair, inside, SPLITS, COLUMNS, kind)
    second = _projected(projected, bias, start + 2 * pair + 1, inside, SPLITS, COLUMNS, kind)
    one, two = rotate_pair(first, second, cos, sin, kind)
    tl.store(out + pair, one, mask=inside)
    tl.store(out + HALF + pair, two, mask=inside)


@triton.jit
def _index_key(
    projected,
    weight,
    bias,
    key,
    pair,
    cos,
    sin,
    eps,
    DIM: tl.constexpr,
    HALF: tl.constexpr,
    LANES: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    kind: tl.constexpr,
):
    """Layer norm, then rotation of the first ``2 · HALF`` elements, whose pairs are read again."""
    lane = tl.arange(0, LANES)
    inside = lane < DIM
    value = _projected(projected, None, lane, inside, SPLITS, COLUMNS, kind)
    mean = tl.sum(value, axis=0) / DIM
    apart = tl.where(inside, value - mean, 0.0)
    scale = tl.rsqrt(tl.sum(apart * apart, axis=0) / DIM + eps)
    rest = inside & (lane >= 2 * HALF)
    tl.store(
        key + lane,
        _normed(projected, weight, bias, lane, rest, mean, scale, SPLITS, COLUMNS, kind),
        mask=rest,
    )
    turns = pair < HALF
    at_first = 2 * pair if INTERLEAVED else pair
    at_second = 2 * pair + 1 if INTERLEAVED else HALF + pair
    first = _normed(projected, weight, bias, at_first, turns, mean, scale, SPLITS, COLUMNS, kind).to(
        tl.float32
    )
    second = _normed(projected, weight, bias, at_second, turns, mean, scale, SPLITS, COLUMNS, kind).to(
        tl.float32
    )
    one, two = rotate_pair(first, second, cos, sin, kind)
    tl.store(key + pair, one, mask=turns)
    tl.store(key + HALF + pair, two, mask=turns)


@triton.jit
def _normed(
    projected,
    weight,
    bias,
    lane,
    inside,
    mean,
    scale,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    kind: tl.constexpr,
):
    """Layer-normed values at ``lane``."""
    value = _projected(projected, None, lane, inside, SPLITS, COLUMNS, kind)
    normed = (value - mean) * scale * tl.load(weight + lane, mask=inside, other=0.0).to(tl.float32)
    return (normed + tl.load(bias + lane, mask=inside, other=0.0).to(tl.float32)).to(kind)


@triton.jit
def _head_weights(
    projected,
    weights,
    scale,
    HEADS: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    head = tl.arange(0, LANES)
    total = tl.zeros([LANES], dtype=tl.float32)
    for split in tl.static_range(SPLITS):
        for part in tl.static_range(PARTS):
            at = projected + split * COLUMNS + part * HEADS + head
            total += tl.load(at, mask=head < HEADS, other=0.0)
    tl.store(weights + head, total * scale, mask=head < HEADS)


@triton.jit
def _projected(
    projected, bias, column, inside, SPLITS: tl.constexpr, COLUMNS: tl.constexpr, kind: tl.constexpr
):
    """Load projections as a linear layer with a bias returns them: summed and biased in fp32, then rounded."""
    value = tl.load(projected + column, mask=inside, other=0.0)
    for split in tl.static_range(1, SPLITS):
        value += tl.load(projected + split * COLUMNS + column, mask=inside, other=0.0)
    if bias is not None:
        value += tl.load(bias + column, mask=inside, other=0.0)
    return value.to(kind).to(tl.float32)
