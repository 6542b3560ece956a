"""``attend`` for up to 32 heads on Hopper, where moving the rows is all that counts (Gluon).

The products are turned around: rows times queries, and latents (transposed) times weights. So the many rows and the
latent fill the 64 lanes that a Hopper product has on its first side, and the few heads are its narrow second side: a
tile costs less than half the time that its bytes take to come.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    warpgroup_mma,
    warpgroup_mma_wait,
)

_EMPTY = gl.constexpr(-1.0e30)  # as in attention_kernels
_COPY = gl.constexpr(gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0]))  # a warp reads 128 bytes of four rows


@gluon.jit
def _load_slots(slots, tile, tiles, BLOCK_N):
    """Return a tile's slots as its copies want them; NONE past the last tile."""
    entry = tile * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(1, _COPY))
    return gl.load(slots + entry, mask=entry < tiles * BLOCK_N, other=-1)


@gluon.jit
def _copy(rows, row, there, part, WIDTH, FIRST):
    """Start copying columns of ``row`` to shared memory; zeros where it is not ``there``."""
    column = FIRST + gl.arange(0, part.shape[1], gl.SliceLayout(0, _COPY))
    pointer = rows + row.to(gl.int64)[:, None] * WIDTH + column[None, :]
    async_copy.async_copy_global_to_shared(part, pointer, mask=there[:, None])


@gluon.jit
def _copy_tile(rows, slot, latent, rope, LATENT, ROPE):
    _copy(rows, slot, slot >= 0, latent, LATENT + ROPE, 0)
    _copy(rows, slot, slot >= 0, rope, LATENT + ROPE, LATENT)
    async_copy.commit_group()


@gluon.jit(do_not_specialize=["shares", "share_tiles"])
def attend_share_few(
    query, rows, slots, out, sums, scale, shares, share_tiles,
    HEADS: gl.constexpr,
    K: gl.constexpr,  # a multiple of BLOCK_N
    LATENT: gl.constexpr,
    WIDTH: gl.constexpr,
    BLOCK_H: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BUFFERS: gl.constexpr,
    SPLIT: gl.constexpr,  # there are several shares
):  # fmt: skip
    """Do what ``attention_kernels.attend_share`` does."""
    head_blocks: gl.constexpr = (HEADS + BLOCK_H - 1) // BLOCK_H
    rope_dim: gl.constexpr = WIDTH - LATENT
    dtype: gl.constexpr = rows.dtype.element_ty
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_H, 16])
    program = gl.program_id(0)  # neighbours share a token's rows: head blocks are innermost
    token = program // (shares * head_blocks)
    share = program // head_blocks % shares
    head = program % head_blocks * BLOCK_H
    slots += token.to(gl.int64) * K + share * share_tiles * BLOCK_N
    tiles = gl.minimum(share_tiles, K // BLOCK_N - share * share_tiles)

    swizzled: gl.constexpr = gl.NVMMASharedLayout(128, 16)
    latent = gl.allocate_shared_memory(dtype, [BUFFERS, BLOCK_N, LATENT], swizzled)
    rope = gl.allocate_shared_memory(dtype, [BUFFERS, BLOCK_N, rope_dim], swizzled)
    q_latent = gl.allocate_shared_memory(dtype, [BLOCK_H, LATENT], swizzled)
    q_rope = gl.allocate_shared_memory(dtype, [BLOCK_H, rope_dim], swizzled)
    weights = gl.allocate_shared_memory(dtype, [BLOCK_N, BLOCK_H], gl.NVMMASharedLayout(2 * BLOCK_H, 16))

    query += (token.to(gl.int64) * HEADS + head) * WIDTH
    slot = _load_slots(slots, 0, tiles, BLOCK_N)
    next_slot = _load_slots(slots, 1, tiles, BLOCK_N)
    query_head = gl.arange(0, BLOCK_H, gl.SliceLayout(1, _COPY))
    _copy(query, query_head, head + query_head < HEADS, q_latent, WIDTH, 0)
    _copy(query, query_head, head + query_head < HEADS, q_rope, WIDTH, LATENT)
    _copy_tile(rows, slot, latent.index(0), rope.index(0), LATENT, rope_dim)
    _copy_tile(rows, next_slot, latent.index(1), rope.index(1), LATENT, rope_dim)
    for tile in gl.static_range(2, BUFFERS):
        slot = _load_slots(slots, tile, tiles, BLOCK_N)
        _copy_tile(rows, slot, latent.index(tile), rope.index(tile), LATENT, rope_dim)

    entry = gl.arange(0, BLOCK_N, gl.SliceLayout(1, layout))
    top = gl.full([BLOCK_H], _EMPTY, gl.float32, gl.SliceLayout(0, layout))
    total = gl.zeros([BLOCK_H], gl.float32, gl.SliceLayout(0, layout))
    acc = gl.zeros([LATENT, BLOCK_H], gl.float32, layout)
    zero = gl.zeros([BLOCK_N, BLOCK_H], gl.float32, layout)
    for tile in range(tiles):
        buffer = tile % BUFFERS
        own_slot = gl.load(slots + tile * BLOCK_N + entry)
        next_slot = _load_slots(slots, tile + BUFFERS, tiles, BLOCK_N)
        async_copy.wait_group(BUFFERS - 1)
        gl.thread_barrier()
        score = warpgroup_mma(rope.index(buffer), q_rope.permute((1, 0)), zero, use_acc=False, is_async=True)
        score = warpgroup_mma(latent.index(buffer), q_latent.permute((1, 0)), score, is_async=True)
        score = warpgroup_mma_wait(0, deps=[score])

        score = gl.where((own_slot >= 0)[:, None], score * scale, _EMPTY)
        new_top = gl.maximum(top, gl.max(score, 0))
        weight = gl.exp2(score - new_top[None, :])
        shrink = gl.exp2(top - new_top)
        total = total * shrink + gl.sum(weight, 0)
        top = new_top
        weights.store(weight.to(dtype))
        acc = acc * shrink[None, :]
        fence_async_shared()
        gl.thread_barrier()
        acc = warpgroup_mma(latent.index(buffer).permute((1, 0)), weights, acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[acc])
        gl.thread_barrier()
        _copy_tile(rows, next_slot, latent.index(buffer), rope.index(buffer), LATENT, rope_dim)

    async_copy.wait_group(0)
    place = (token.to(gl.int64) * shares + share) * HEADS + head
    acc = acc / total[None, :]
    column = gl.arange(0, LATENT, gl.SliceLayout(1, layout))[:, None]
    own_head = gl.arange(0, BLOCK_H, gl.SliceLayout(0, layout))
    pointer = out + place * LATENT + own_head[None, :] * LATENT + column
    gl.store(pointer, acc.to(out.dtype.element_ty), mask=(head + own_head < HEADS)[None, :])
    if SPLIT:
        gl.store(sums + place + own_head, top + gl.log2(total), mask=head + own_head < HEADS)
