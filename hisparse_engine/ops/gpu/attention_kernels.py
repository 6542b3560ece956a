"""Triton kernels of ``attend``: one pass over a share of a token's slots, and the sum over the shares.

Scores are kept in base 2 (``scale`` carries log2 e). An empty entry's row reads as zeros and its score is ``_EMPTY``, a
finite number far below any score: its weight vanishes beside any row's, and where there is no row at all the weights
are those of zeros. So no step of the softmax needs a special case, and what unselected rows hold never matters.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_wait

_EMPTY = tl.constexpr(-1.0e30)


@triton.jit(do_not_specialize=["shares"])
def attend_share(
    query,  # [T, HEADS, WIDTH]
    rows,  # [device_tokens, WIDTH]
    slots,  # int32 [T, K]
    out,  # [T, shares, HEADS, LATENT], fp32 where there are several shares
    sums,  # fp32 [T, shares, HEADS], log2 of each share's sum of weights; unused where there is one share
    scale,
    shares,
    HEADS: tl.constexpr,
    K: tl.constexpr,
    LATENT: tl.constexpr,
    WIDTH: tl.constexpr,
    SHARE_TILES: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_L: tl.constexpr,  # LATENT and WIDTH - LATENT, rounded up to what a dot can take
    BLOCK_R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: a token, a block of its heads, one of its ``shares`` shares of slots."""
    head_blocks: tl.constexpr = (HEADS + BLOCK_H - 1) // BLOCK_H
    program = tl.program_id(0)  # neighbours share a token's rows: head blocks are innermost
    token = program // (shares * head_blocks)
    share = program // head_blocks % shares
    heads = program % head_blocks * BLOCK_H + tl.arange(0, BLOCK_H)
    latent, rope = tl.arange(0, BLOCK_L), tl.arange(0, BLOCK_R)
    entries = tl.arange(0, BLOCK_N)

    query_row = query + (token.to(tl.int64) * HEADS + heads) * WIDTH
    in_query = (heads < HEADS)[:, None]
    q_latent = tl.load(
        query_row[:, None] + latent[None, :], mask=in_query & (latent < LATENT)[None, :], other=0.0
    )
    q_rope = tl.load(
        query_row[:, None] + LATENT + rope[None, :],
        mask=in_query & (rope < WIDTH - LATENT)[None, :],
        other=0.0,
    )

    top = tl.full([BLOCK_H], _EMPTY, tl.float32)
    total = tl.zeros([BLOCK_H], tl.float32)
    acc = tl.zeros([BLOCK_H, BLOCK_L], tl.float32)
    for tile in tl.range(SHARE_TILES):
        entry = (share * SHARE_TILES + tile) * BLOCK_N + entries
        slot = tl.load(slots + token.to(tl.int64) * K + entry, mask=entry < K, other=-1)
        taken = slot >= 0
        row = rows + slot.to(tl.int64) * WIDTH
        r_latent = tl.load(
            row[:, None] + latent[None, :], mask=taken[:, None] & (latent < LATENT)[None, :], other=0.0
        )
        r_rope = tl.load(
            row[:, None] + LATENT + rope[None, :],
            mask=taken[:, None] & (rope < WIDTH - LATENT)[None, :],
            other=0.0,
        )
        score = tl.dot(q_latent, tl.trans(r_latent), input_precision=PRECISION)
        score = tl.dot(q_rope, tl.trans(r_rope), score, input_precision=PRECISION)
        score = tl.where(taken[None, :], score * scale, _EMPTY)
        new_top = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp2(score - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weight, 1)
        acc = tl.dot(weight.to(r_latent.dtype), r_latent, acc * shrink[:, None], input_precision=PRECISION)
        top = new_top

    place = (token.to(tl.int64) * shares + share) * HEADS + heads
    acc = acc / total[:, None]
    tl.store(
        out + place[:, None] * LATENT + latent[None, :],
        acc.to(out.dtype.element_ty),
        mask=in_query & (latent < LATENT)[None, :],
    )
    if shares > 1:
        tl.store(sums + place, top + tl.log2(total), mask=heads < HEADS)


@triton.jit(do_not_specialize=["shares", "heads"])
def add_shares(
    parts,  # fp32 [T, shares, heads, LATENT]
    sums,  # fp32 [T, shares, heads]
    out,  # [T, heads, LATENT]
    shares,
    heads,
    LATENT: tl.constexpr,
    BLOCK_S: tl.constexpr,  # shares, rounded up
    BLOCK_L: tl.constexpr,
    LINKED: tl.constexpr,
):
    """One program: BLOCK_L numbers of one token's head. The shares are added in a fixed order."""
    pair = tl.program_id(0)
    token, head = pair // heads, pair % heads
    latent = tl.program_id(1) * BLOCK_L + tl.arange(0, BLOCK_L)
    share = tl.arange(0, BLOCK_S)
    if LINKED:
        gdc_wait()
    place = (token.to(tl.int64) * shares + share) * heads + head
    total = tl.load(sums + place, mask=share < shares, other=float("-inf"))
    weight = tl.exp2(total - tl.max(total, 0))
    part = tl.load(
        parts + place[:, None] * LATENT + latent[None, :],
        mask=(share < shares)[:, None] & (latent < LATENT)[None, :],
        other=0.0,
    )
    result = tl.sum(part * weight[:, None], 0) / tl.sum(weight, 0)
    tl.store(out + pair.to(tl.int64) * LATENT + latent, result.to(out.dtype.element_ty), mask=latent < LATENT)
