"""``attend`` over quantised rows for up to 32 heads on Hopper (Gluon); turned around like ``attention_hopper_few``.

Every e4m3 number is a float16 number, so the latents are multiplied as float16 without their scales: a group's scores are
scaled after the product, and before the product with the values the weights are. So unpacking is one conversion for
two numbers. Queries are taken as float16: their magnitudes must stay below 65504.
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
_BYTES = gl.constexpr(
    gl.BlockedLayout([1, 16], [4, 8], [4, 1], [1, 0])
)  # a warp reads 128 bytes of four rows
_HALVES = gl.constexpr(gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0]))
_LIFT = gl.constexpr(256.0)  # keeps small scaled weights out of float16's subnormals


@gluon.jit
def _load_slots(slots, tile, tiles, BLOCK_N, LAYOUT):
    """Return a tile's slots; NONE past the last tile."""
    entry = tile * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(1, LAYOUT))
    return gl.load(slots + entry, mask=entry < tiles * BLOCK_N, other=-1)


@gluon.jit
def _copy_tile(latents, ropes, slots, tile, tiles, packed, rope, BLOCK_N, STRIDES, ROPE_FIRST):
    """Start copying a tile's rows as they are stored; zeros for NONE."""
    slot = _load_slots(slots, tile, tiles, BLOCK_N, _BYTES)
    column = gl.arange(0, packed.shape[1], gl.SliceLayout(0, _BYTES))[None, :]
    pointer = latents + slot.to(gl.int64)[:, None] * STRIDES[0] + column
    async_copy.async_copy_global_to_shared(packed, pointer, mask=(slot >= 0)[:, None])
    slot = _load_slots(slots, tile, tiles, BLOCK_N, _HALVES)
    column = ROPE_FIRST + gl.arange(0, rope.shape[1], gl.SliceLayout(0, _HALVES))[None, :]
    pointer = ropes + slot.to(gl.int64)[:, None] * STRIDES[2] + column
    async_copy.async_copy_global_to_shared(rope, pointer, mask=(slot >= 0)[:, None])
    async_copy.commit_group()


@gluon.jit
def _load_scales(scales, slot, group, STRIDES, SCALE_FIRST):
    return gl.load(scales + slot.to(gl.int64) * STRIDES[1] + SCALE_FIRST + group, mask=slot >= 0, other=0.0)


@gluon.jit
def _put_query(query, part, heads_left, WIDTH, FIRST):
    head = gl.arange(0, part.shape[0], gl.SliceLayout(1, _HALVES))[:, None]
    column = FIRST + gl.arange(0, part.shape[1], gl.SliceLayout(0, _HALVES))[None, :]
    value = gl.load(query + head * WIDTH + column, mask=(head < heads_left) & (column >= 0), other=0.0)
    part.store(value.to(part.dtype))


@gluon.jit
def _unpack(packed, unpacked, group):
    """Write one group of a tile's latents as float16."""
    size: gl.constexpr = unpacked.shape[1]
    unpacked.store(packed.slice(group * size, size, 1).load(_BYTES).to(gl.float16))


@gluon.jit
def _weigh(weights, weight, scale, values, acc, shrink):
    """Add one group's weighted values to its sums."""
    weights.store((weight * (scale * _LIFT)[:, None]).to(gl.float16))
    acc = acc * shrink[None, :]
    fence_async_shared()
    gl.thread_barrier()
    return warpgroup_mma(values.permute((1, 0)), weights, acc, is_async=True)


@gluon.jit
def _put(out, acc, total, group, heads_left, LATENT, LAYOUT):
    size: gl.constexpr = acc.shape[0]
    column = group * size + gl.arange(0, size, gl.SliceLayout(1, LAYOUT))[:, None]
    head = gl.arange(0, acc.shape[1], gl.SliceLayout(0, LAYOUT))[None, :]
    value = acc / (total * _LIFT)[None, :]
    gl.store(
        out + head * LATENT + column, value.to(out.dtype.element_ty), mask=(head < heads_left) & (column >= 0)
    )


@gluon.jit(do_not_specialize=["shares", "share_tiles"])
def attend_share_fp8(
    query, latents, scales, ropes, slots, out, sums, scale, shares, share_tiles,
    HEADS: gl.constexpr,
    K: gl.constexpr,  # a multiple of BLOCK_N
    LATENT: gl.constexpr,  # four groups
    ROPE: gl.constexpr,
    STRIDES: gl.constexpr,
    BLOCK_H: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BUFFERS: gl.constexpr,
    SPLIT: gl.constexpr,  # there are several shares
):  # fmt: skip
    """Do what ``attention_quantised.attend_share_quantised`` does."""
    head_blocks: gl.constexpr = (HEADS + BLOCK_H - 1) // BLOCK_H
    width: gl.constexpr = LATENT + ROPE
    size: gl.constexpr = LATENT // 4
    scale_first: gl.constexpr = LATENT // 4  # after the latent, in float32 numbers
    rope_first: gl.constexpr = (LATENT + 16) // 2  # after the scales, in bfloat16 numbers
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_H, 16])
    program = gl.program_id(0)
    token = program // (shares * head_blocks)
    share = program // head_blocks % shares
    head = program % head_blocks * BLOCK_H
    heads_left = HEADS - head
    slots += token.to(gl.int64) * K + share * share_tiles * BLOCK_N
    tiles = gl.minimum(share_tiles, K // BLOCK_N - share * share_tiles)

    plain: gl.constexpr = gl.SwizzledSharedLayout(16, 1, 1, [1, 0])
    swizzled: gl.constexpr = gl.NVMMASharedLayout(128, 16)
    packed = gl.allocate_shared_memory(latents.dtype.element_ty, [BUFFERS, BLOCK_N, LATENT], plain)
    rope = gl.allocate_shared_memory(gl.bfloat16, [BUFFERS, BLOCK_N, ROPE], swizzled)
    values = gl.allocate_shared_memory(gl.float16, [4, BLOCK_N, size], swizzled)
    weights = gl.allocate_shared_memory(
        gl.float16, [4, BLOCK_N, BLOCK_H], gl.NVMMASharedLayout(2 * BLOCK_H, 16)
    )
    q_latent = gl.allocate_shared_memory(gl.float16, [4, BLOCK_H, size], swizzled)
    q_rope = gl.allocate_shared_memory(gl.bfloat16, [BLOCK_H, ROPE], swizzled)

    for tile in gl.static_range(BUFFERS):
        _copy_tile(
            latents,
            ropes,
            slots,
            tile,
            tiles,
            packed.index(tile),
            rope.index(tile),
            BLOCK_N,
            STRIDES,
            rope_first,
        )
    query += (token.to(gl.int64) * HEADS + head) * width
    for group in gl.static_range(4):
        _put_query(query, q_latent.index(group), heads_left, width, group * size)
    _put_query(query, q_rope, heads_left, width, LATENT)

    top = gl.full([BLOCK_H], _EMPTY, gl.float32, gl.SliceLayout(0, layout))
    total = gl.zeros([BLOCK_H], gl.float32, gl.SliceLayout(0, layout))
    zero = gl.zeros([BLOCK_N, BLOCK_H], gl.float32, layout)
    acc0 = gl.zeros([size, BLOCK_H], gl.float32, layout)
    acc1 = gl.zeros([size, BLOCK_H], gl.float32, layout)
    acc2 = gl.zeros([size, BLOCK_H], gl.float32, layout)
    acc3 = gl.zeros([size, BLOCK_H], gl.float32, layout)
    for tile in range(tiles):
        buffer = tile % BUFFERS
        slot = _load_slots(slots, tile, tiles, BLOCK_N, layout)
        scale0 = _load_scales(scales, slot, 0, STRIDES, scale_first)
        scale1 = _load_scales(scales, slot, 1, STRIDES, scale_first)
        scale2 = _load_scales(scales, slot, 2, STRIDES, scale_first)
        scale3 = _load_scales(scales, slot, 3, STRIDES, scale_first)
        async_copy.wait_group(BUFFERS - 1)
        gl.thread_barrier()
        for group in gl.static_range(4):
            _unpack(packed.index(buffer), values.index(group), group)
        fence_async_shared()
        gl.thread_barrier()
        part0 = warpgroup_mma(
            values.index(0), q_latent.index(0).permute((1, 0)), zero, use_acc=False, is_async=True
        )
        part1 = warpgroup_mma(
            values.index(1), q_latent.index(1).permute((1, 0)), zero, use_acc=False, is_async=True
        )
        part2 = warpgroup_mma(
            values.index(2), q_latent.index(2).permute((1, 0)), zero, use_acc=False, is_async=True
        )
        part3 = warpgroup_mma(
            values.index(3), q_latent.index(3).permute((1, 0)), zero, use_acc=False, is_async=True
        )
        part4 = warpgroup_mma(rope.index(buffer), q_rope.permute((1, 0)), zero, use_acc=False, is_async=True)
        part0, part1, part2, part3, part4 = warpgroup_mma_wait(0, deps=[part0, part1, part2, part3, part4])
        gl.thread_barrier()
        _copy_tile(
            latents, ropes, slots, tile + BUFFERS, tiles, packed.index(buffer), rope.index(buffer), BLOCK_N, STRIDES,
            rope_first,
        )  # fmt: skip

        score = part4 + part0 * scale0[:, None] + part1 * scale1[:, None]
        score = (score + part2 * scale2[:, None] + part3 * scale3[:, None]) * scale
        score = gl.where((slot >= 0)[:, None], score, _EMPTY)
        new_top = gl.maximum(top, gl.max(score, 0))
        weight = gl.exp2(score - new_top[None, :])
        shrink = gl.exp2(top - new_top)
        total = total * shrink + gl.sum(weight, 0)
        top = new_top
        acc0 = _weigh(weights.index(0), weight, scale0, values.index(0), acc0, shrink)
        acc1 = _weigh(weights.index(1), weight, scale1, values.index(1), acc1, shrink)
        acc2 = _weigh(weights.index(2), weight, scale2, values.index(2), acc2, shrink)
        acc3 = _weigh(weights.index(3), weight, scale3, values.index(3), acc3, shrink)
        acc0, acc1, acc2, acc3 = warpgroup_mma_wait(0, deps=[acc0, acc1, acc2, acc3])

    async_copy.wait_group(0)
    place = (token.to(gl.int64) * shares + share) * HEADS + head
    out += place * LATENT
    _put(out, acc0, total, 0, heads_left, LATENT, layout)
    _put(out, acc1, total, 1, heads_left, LATENT, layout)
    _put(out, acc2, total, 2, heads_left, LATENT, layout)
    _put(out, acc3, total, 3, heads_left, LATENT, layout)
    if SPLIT:
        own_head = gl.arange(0, BLOCK_H, gl.SliceLayout(0, layout))
        gl.store(sums + place + own_head, top + gl.log2(total), mask=own_head < heads_left)
