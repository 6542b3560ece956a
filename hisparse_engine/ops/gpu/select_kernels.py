"""Triton kernels of select: index keys as they are stored, and the scores of every position of a ragged batch.

A tile is BLOCK_N positions of a group of GROUP tokens that see the same keys (a group of one in a decode batch). The
tiles of all groups form one list, cut into as many equal parts as there are programs, whatever the lengths are. A
position's score depends on its key and the token only, never on where the key lies or on which program has the tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

LEAST = tl.constexpr(-3.4028234663852886e38)
"""The least score: what is no number counts as this, so that there always are k best."""


@triton.jit
def _to_fp8_range(largest):
    """Return the power of two that brings ``largest`` to 128 … 256; 1 for zero."""
    exponent = 134 - ((largest.to(tl.int32, bitcast=True) >> 23) & 0xFF)
    exponent = tl.where(largest > 0.0, tl.minimum(tl.maximum(exponent, -126), 126), 0)
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["tokens", "k", "scores_stride"])
def score_positions(
    query,  # [T, HEADS, DIM]
    weights,  # fp32 [T, HEADS]
    keys,  # [slots, DIM]
    scales,  # fp32 [slots]; unused unless HAS_SCALES
    key_slots,  # int32 [table_tokens]
    starts,  # int64 [T], or one where GROUP is not 1
    lengths,  # int32 [T]
    scores,  # fp32 [T, scores_stride]
    tokens,
    k,
    scores_stride,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    GROUP: tl.constexpr,  # tokens that share a tile; unless it is 1, all tokens are of one request
    BLOCK_T: tl.constexpr,  # the next power of two of the tokens, at least GROUP
    BLOCK_N: tl.constexpr,
    BLOCK_H: tl.constexpr,  # HEADS and DIM, rounded up to what a dot can take
    BLOCK_D: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    SPLIT: tl.constexpr,  # fp8 keys, multiplied as they are by a query of two fp8 terms
    DOT: tl.constexpr,  # what is multiplied
    STAGES: tl.constexpr,
):
    """One program: an equal part of all tiles. Tokens with at most ``k`` positions have none: they need no scores."""
    groups: tl.constexpr = BLOCK_T // GROUP
    all_tokens = tl.arange(0, BLOCK_T)
    all_lengths = tl.load(lengths + all_tokens, mask=all_tokens < tokens, other=0)
    early: tl.constexpr = GROUP == 1 and BLOCK_T <= 16
    if early:  # few tokens: their starts are fetched along with their lengths
        all_starts = tl.load(starts + all_tokens, mask=all_tokens < tokens, other=0)
    longest = tl.max(tl.reshape(all_lengths, [groups, GROUP]), axis=1)
    tiles = tl.where(longest > k, (longest + BLOCK_N - 1) // BLOCK_N, 0)
    ends = tl.cumsum(tiles, axis=0)  # of each group's tiles in the list
    total = tl.max(ends, axis=0).to(tl.int64)
    tile = (total * tl.program_id(0) // tl.num_programs(0)).to(tl.int32)
    last = (total * (tl.program_id(0) + 1) // tl.num_programs(0)).to(tl.int32)

    rows: tl.constexpr = GROUP * BLOCK_H
    member, head = tl.arange(0, rows) // BLOCK_H, tl.arange(0, rows) % BLOCK_H
    members, places = tl.arange(0, GROUP), tl.arange(0, BLOCK_N)
    dims = tl.arange(0, BLOCK_D)
    while tile < last:
        group = tl.sum((ends <= tile).to(tl.int32), axis=0)
        first = tl.max(tl.where(ends <= tile, ends, 0), axis=0)
        end = tl.minimum(tl.min(tl.where(ends > tile, ends, last), axis=0), last)
        token = group * GROUP + members
        own_length = tl.load(lengths + token, mask=token < tokens, other=0)
        length = tl.max(own_length, axis=0)
        # The slots of a tile are loaded one tile ahead of its keys. A place beyond the end takes the last key's slot: no
        # mask on the large load, and its score is not stored.
        if early:
            table = key_slots + tl.sum(tl.where(all_tokens == group, all_starts, 0), axis=0)
        else:
            table = key_slots + tl.load(starts + (group if GROUP == 1 else 0))
        slot = tl.load(table + tl.minimum((tile - first) * BLOCK_N + places, length - 1))

        is_head = (group * GROUP + member < tokens) & (head < HEADS)
        query_row = (group * GROUP + member).to(tl.int64) * HEADS + head
        q_row, in_query = query + query_row[:, None] * DIM, is_head[:, None] & (dims < DIM)[None, :]
        w = tl.load(weights + query_row, mask=is_head, other=0.0) * (1.0 / DIM**0.5)
        q = tl.load(q_row + dims[None, :], mask=in_query, other=0.0)
        if SPLIT:
            q = q.to(tl.float32)
            factor = _to_fp8_range(tl.max(tl.abs(q), axis=1))
            w /= factor
            q *= factor[:, None]
            q_rest = tl.trans((q - q.to(DOT).to(tl.float32)).to(DOT))
        q, w = tl.trans(q.to(DOT)), tl.reshape(w, [1, GROUP, BLOCK_H])
        own_scores = scores + token.to(tl.int64) * scores_stride
        for t in tl.range(tile - first, end - first, num_stages=STAGES):
            position = t * BLOCK_N + places
            key_slot = slot
            slot = tl.load(table + tl.minimum(position + BLOCK_N, length - 1))
            key_row = keys + key_slot.to(tl.int64)[:, None] * DIM + dims[None, :]
            if DIM == BLOCK_D:
                key = tl.load(key_row)
            else:
                key = tl.load(key_row, mask=(dims < DIM)[None, :], other=0.0)
            if SPLIT:
                dots = tl.dot(key, q_rest, tl.dot(key, q))
            else:
                dots = tl.dot(key.to(DOT), q, input_precision="ieee")
            score = tl.sum(tl.maximum(tl.reshape(dots, [BLOCK_N, GROUP, BLOCK_H]), 0.0) * w, axis=2)
            if HAS_SCALES:
                score *= tl.load(scales + key_slot)[:, None]
            is_own = position[:, None] < own_length[None, :]
            score = tl.where(score > LEAST, score, LEAST)
            tl.store(own_scores[None, :] + position[:, None], score, mask=is_own)
        tile = end


@triton.jit(do_not_specialize=["tokens", "key_stride"])
def store_keys(
    slots,  # int32 [T]; negative: nowhere
    keys,  # [T, DIM], rows key_stride apart
    stored,  # [slots, DIM]
    scales,  # fp32 [slots]; unused unless HAS_SCALES
    tokens,
    key_stride,
    DIM: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    LARGEST: tl.constexpr,  # what a key's largest component is stored as
    SMALLEST: tl.constexpr,  # below this a key is stored as zeros
):
    """One program: BLOCK_T keys."""
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    dims = tl.arange(0, BLOCK_D)
    slot = tl.load(slots + token, mask=token < tokens, other=-1)
    taken = (slot >= 0)[:, None] & (dims < DIM)[None, :]
    key = tl.load(keys + token.to(tl.int64)[:, None] * key_stride + dims[None, :], mask=taken, other=0.0)
    if HAS_SCALES:
        key = key.to(tl.float32)
        largest = tl.max(tl.abs(key), axis=1)
        scale = tl.where(largest >= SMALLEST, tl.div_rn(largest, LARGEST), 1.0)
        key = tl.div_rn(key, tl.broadcast_to(scale[:, None], key.shape))
        key = tl.minimum(tl.maximum(key, -LARGEST), LARGEST)
        tl.store(scales + slot, scale, mask=slot >= 0)
    place = slot.to(tl.int64)[:, None] * DIM + dims[None, :]
    tl.store(stored + place, key.to(stored.dtype.element_ty), mask=taken)
