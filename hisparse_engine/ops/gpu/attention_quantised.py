"""Triton kernels for quantised KV rows: ``attend`` over them, and how they are written.

A row is seen three ways at once: its latent as float8_e4m3fn, its scales as float32, its rope key as bfloat16; each view
has a stride and a first column in its own numbers. The next tile is loaded to registers while one is multiplied.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

GROUP = 128
"""Numbers of a latent that share a scale."""

_EMPTY = tl.constexpr(-1.0e30)  # as in attention_kernels
_LARGEST_E4M3 = tl.constexpr(448.0)
_SMALLEST_LARGEST = tl.constexpr(1e-4)  # of a group's numbers: zeros stay zeros


@triton.jit
def _load_slots(slots, share_entry, SHARE_ENTRIES, entry, K, BLOCK_N: tl.constexpr):
    """Return the slots of the tile that begins at ``entry`` of a share; NONE past the share's end."""
    entry += tl.arange(0, BLOCK_N)
    return tl.load(
        slots + share_entry + entry, mask=(entry < SHARE_ENTRIES) & (share_entry + entry < K), other=-1
    )


@triton.jit
def _load_rows(
    latents,
    scales,
    ropes,
    slot,
    LATENT: tl.constexpr,
    ROPE: tl.constexpr,
    GROUP: tl.constexpr,
    STRIDES: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Return a tile's latents as they are stored, their scales, and the rope keys; zeros for NONE."""
    taken, row = (slot >= 0)[:, None], slot.to(tl.int64)[:, None]
    column = tl.arange(0, LATENT)[None, :]
    latent = tl.load(latents + row * STRIDES[0] + column, mask=taken & (column < LATENT), other=0.0)
    group = tl.arange(0, LATENT // GROUP)[None, :]
    scale = tl.load(scales + row * STRIDES[1] + LATENT // 4 + group, mask=taken & (group < LATENT), other=0.0)
    column = tl.arange(0, BLOCK_R)[None, :]
    first: tl.constexpr = (LATENT + 4 * (LATENT // GROUP)) // 2
    rope = tl.load(ropes + row * STRIDES[2] + first + column, mask=taken & (column < ROPE), other=0.0)
    return latent, scale, rope


@triton.jit(do_not_specialize=["shares"])
def attend_share_quantised(
    query,  # bf16 [T, HEADS, LATENT + ROPE]
    latents,  # float8e4nv [device_tokens, STRIDES[0]]
    scales,  # fp32 [device_tokens, STRIDES[1]], the same memory
    ropes,  # bf16 [device_tokens, STRIDES[2]], the same memory
    slots,
    out,
    sums,
    scale,
    shares,
    HEADS: tl.constexpr,
    K: tl.constexpr,
    LATENT: tl.constexpr,  # a power of two
    ROPE: tl.constexpr,
    GROUP: tl.constexpr,  # numbers that share a scale
    STRIDES: tl.constexpr,
    SHARE_TILES: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Do what ``attention_kernels.attend_share`` does; the other arguments are described there."""
    head_blocks: tl.constexpr = (HEADS + BLOCK_H - 1) // BLOCK_H
    program = tl.program_id(0)
    token = program // (shares * head_blocks)
    share = program // head_blocks % shares
    heads = program % head_blocks * BLOCK_H + tl.arange(0, BLOCK_H)
    column, rope_column = tl.arange(0, LATENT)[None, :], tl.arange(0, BLOCK_R)[None, :]
    in_query = (heads < HEADS)[:, None]

    slots += token.to(tl.int64) * K
    share_entry = share * SHARE_TILES * BLOCK_N
    end: tl.constexpr = SHARE_TILES * BLOCK_N
    slot = _load_slots(slots, share_entry, end, 0, K, BLOCK_N)
    next_slot = _load_slots(slots, share_entry, end, BLOCK_N, K, BLOCK_N)
    latent, group_scale, rope = _load_rows(
        latents, scales, ropes, slot, LATENT, ROPE, GROUP, STRIDES, BLOCK_R
    )
    query_row = query + ((token.to(tl.int64) * HEADS + heads) * (LATENT + ROPE))[:, None]
    q_latent = tl.load(query_row + column, mask=in_query & (column < LATENT), other=0.0)
    q_rope = tl.load(query_row + LATENT + rope_column, mask=in_query & (rope_column < ROPE), other=0.0)

    top = tl.full([BLOCK_H], _EMPTY, tl.float32)
    total = tl.zeros([BLOCK_H], tl.float32)
    acc = tl.zeros([BLOCK_H, LATENT], tl.float32)
    for tile in tl.range(SHARE_TILES):
        next_latent, next_scale, next_rope = _load_rows(
            latents, scales, ropes, next_slot, LATENT, ROPE, GROUP, STRIDES, BLOCK_R
        )
        later_slot = _load_slots(slots, share_entry, end, (tile + 2) * BLOCK_N, K, BLOCK_N)
        grouped = (
            tl.reshape(latent.to(tl.float32), (BLOCK_N, LATENT // GROUP, GROUP)) * group_scale[:, :, None]
        )
        value = tl.reshape(grouped, (BLOCK_N, LATENT)).to(tl.bfloat16).to(query.dtype.element_ty)
        score = tl.dot(q_latent, tl.trans(value))
        score = tl.dot(q_rope, tl.trans(rope.to(query.dtype.element_ty)), score)
        score = tl.where((slot >= 0)[None, :], score * scale, _EMPTY)
        new_top = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp2(score - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weight, 1)
        acc = tl.dot(weight.to(value.dtype), value, acc * shrink[:, None])
        top = new_top
        slot, latent, group_scale, rope = next_slot, next_latent, next_scale, next_rope
        next_slot = later_slot

    place = (token.to(tl.int64) * shares + share) * HEADS + heads
    acc = acc / total[:, None]
    tl.store(
        out + place[:, None] * LATENT + column,
        acc.to(out.dtype.element_ty),
        mask=in_query & (column < LATENT),
    )
    if shares > 1:
        tl.store(sums + place, top + tl.log2(total), mask=heads < HEADS)


@triton.jit
def quantise(
    rows,  # [n, LATENT + ROPE]
    latents,  # the three views of the quantised rows
    scales,
    ropes,
    LATENT: tl.constexpr,
    ROPE: tl.constexpr,
    GROUP: tl.constexpr,
    STRIDES: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """One program: a row."""
    row = tl.program_id(0).to(tl.int64)
    groups: tl.constexpr = LATENT // GROUP
    place = tl.arange(0, groups)[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    number = tl.load(rows + row * (LATENT + ROPE) + place).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(number), 1), _SMALLEST_LARGEST) / _LARGEST_E4M3
    tl.store(latents + row * STRIDES[0] + place, (number / scale[:, None]).to(latents.dtype.element_ty))
    tl.store(scales + row * STRIDES[1] + LATENT // 4 + tl.arange(0, groups), scale)
    column = tl.arange(0, BLOCK_R)
    first: tl.constexpr = (LATENT + 4 * groups) // 2
    rope = tl.load(rows + row * (LATENT + ROPE) + LATENT + column, mask=column < ROPE, other=0.0)
    tl.store(ropes + row * STRIDES[2] + first + column, rope.to(ropes.dtype.element_ty), mask=column < ROPE)


def quantise_rows(rows: torch.Tensor, latent_dim: int) -> torch.Tensor:
    """Return KV ``rows [n, width]`` as bytes; see :func:`hisparse_engine.ops.reference.attention.quantise_rows`."""
    rope = rows.shape[1] - latent_dim
    width = latent_dim + 4 * (latent_dim // GROUP) + 2 * rope
    out = torch.empty((len(rows), width), dtype=torch.uint8, device=rows.device)
    if len(rows) > 0:
        quantise[(len(rows),)](
            rows.contiguous(),
            *views(out),
            LATENT=latent_dim,
            ROPE=rope,
            GROUP=GROUP,
            STRIDES=(width, width // 4, width // 2),
            BLOCK_R=triton.next_power_of_2(rope),
        )
    return out


def views(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return quantised ``rows`` as what the latents, the scales and the rope keys are stored in."""
    return rows.view(torch.float8_e4m3fn), rows.view(torch.float32), rows.view(torch.bfloat16)
