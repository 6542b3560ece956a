"""From a token's stacked down-projections to its query latent, KV row, index key and head weights, on CUDA.

Every value is rounded to the model's dtype where the layer-by-layer computation rounds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hisparse_engine.ops import float8_rows
from hisparse_engine.ops.gpu.latent_parts import (
    head_weights,
    index_key,
    normed_latent,
    rope_key,
    store_float8,
)
from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs
from hisparse_engine.ops.gpu.rotation import IndexShape


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
    *,
    float8_row: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (query latent ``[tokens, q_rank]``, KV row ``[tokens, kv_rank + rope]``, index key, head weights fp32).

    ``projected`` fp32 ``[tokens, splits, q_rank + kv_rank + rope + index_dim + parts · heads]`` is to be summed over
    its splits; ``bias`` fp32 ``[q_rank + kv_rank + rope]``; ``cos, sin`` fp32 ``[tokens, rope / 2]``. A head weight is
    the sum of its parts, over ``sqrt(heads)``. Without an indexer the last two are empty. ``float8_row``: the KV row is
    quantised, uint8 ``[tokens, row_bytes]`` as ``ops.float8_rows`` says, from the values that it would have had.
    """
    tokens, splits, columns = projected.shape
    q_rank, kv_rank, rope = len(norms.query), len(norms.row), 2 * cos.shape[1]
    parts = (columns - q_rank - kv_rank - rope - index.dim) // index.heads if index.heads else 0
    q_latent = norms.query.new_empty(tokens, q_rank)
    row_bytes = float8_rows.row_bytes(kv_rank, rope) if float8_row else 0
    row = norms.query.new_empty(tokens, kv_rank + rope)
    if float8_row:
        row = torch.empty(tokens, row_bytes, dtype=torch.uint8, device=row.device)
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
            *(_views(row) if float8_row else (row, row, row)),
            key,
            weights,
            norms.eps,
            index.heads**-0.5 if index.heads else 1.0,
            SPLITS=splits,
            COLUMNS=columns,
            Q_RANK=q_rank,
            KV_RANK=kv_rank,
            HALF=rope // 2,
            ROW_BYTES=row_bytes,
            GROUP=float8_rows.SCALE_GROUP,
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


def _views(row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return quantised rows as what their rope keys, latents and scales are stored in."""
    return row.view(torch.bfloat16), row.view(torch.float8_e4m3fn), row.view(torch.float32)


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
    row,  # a quantised one's rope key; then two more views of it
    row_latent,
    row_scales,
    key,
    weights,
    eps,
    head_scale,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    Q_RANK: tl.constexpr,
    KV_RANK: tl.constexpr,
    HALF: tl.constexpr,
    ROW_BYTES: tl.constexpr,  # 0 unless it is quantised
    GROUP: tl.constexpr,
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
    kind: tl.constexpr = q_latent.dtype.element_ty
    projected += token * SPLITS * COLUMNS
    pair = tl.arange(0, HALF_LANES)
    c = tl.load(cos + token * HALF + pair, mask=pair < HALF, other=0.0)
    s = tl.load(sin + token * HALF + pair, mask=pair < HALF, other=0.0)
    if tl.program_id(1) == 0:
        normed = normed_latent(projected, bias, 0, query_norm, eps, Q_RANK, Q_LANES, SPLITS, COLUMNS, kind)
        lane = tl.arange(0, Q_LANES)
        tl.store(q_latent + token * Q_RANK + lane, normed, mask=lane < Q_RANK)
    elif tl.program_id(1) == 1:
        normed = normed_latent(
            projected, bias, Q_RANK, row_norm, eps, KV_RANK, KV_LANES, SPLITS, COLUMNS, kind
        )
        if ROW_BYTES == 0:
            row += token * (KV_RANK + 2 * HALF)
            lane = tl.arange(0, KV_LANES)
            tl.store(row + lane, normed, mask=lane < KV_RANK)
            rope = row + KV_RANK
        else:
            store_float8(
                normed,
                row_latent + token * ROW_BYTES,
                row_scales + token * (ROW_BYTES // 4) + KV_RANK // 4,
                KV_RANK,
                KV_LANES,
                GROUP,
            )
            before: tl.constexpr = (KV_RANK + KV_RANK // GROUP * 4) // 2
            rope = row + token * (ROW_BYTES // 2) + before
            filling = 2 * HALF + tl.arange(0, 8)  # zeros at the row's end: less than 16 bytes
            tl.store(rope + filling, 0.0, mask=filling < ROW_BYTES // 2 - before)
        rope_key(projected, bias, Q_RANK + KV_RANK, rope, pair, c, s, HALF, SPLITS, COLUMNS, kind)
    elif HEADS > 0:
        projected += Q_RANK + KV_RANK + 2 * HALF
        key += token * DIM
        index_key(
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
        head_weights(
            projected + DIM, weights + token * HEADS, head_scale, HEADS, PARTS, HEAD_LANES, SPLITS, COLUMNS
        )
