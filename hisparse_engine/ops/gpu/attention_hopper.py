"""``attend`` for blocks of 64 heads on Hopper, in three warp groups with roles of their own (Gluon).

*Score* multiplies the query with a tile of rows, one tile ahead of its softmax, and hands on the weights and the factor
by which the sums shrink. Two *value* groups each own half of the latent: they copy that half of the rows to one of
BUFFERS shared buffers, hold that half of the sums in registers, and refill a buffer as soon as they have used it. So
copies, scores and values of different tiles overlap, and each row is read once.

Compiled for 12 warps of 168 registers: the sums alone take 128, and more warps would leave too few.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

_EMPTY = gl.constexpr(-1.0e30)  # as in attention_kernels
_SLACK = gl.constexpr(8.0)  # weights are at most 2 to this power
_COPY = gl.constexpr(gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0]))  # a warp reads 128 bytes of four rows


@gluon.jit
def _load_slots(slots, tile, tiles, BLOCK_N):
    """Return a tile's slots as its copies want them; NONE past the last tile."""
    entry = tile * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(1, _COPY))
    return gl.load(slots + entry, mask=entry < tiles * BLOCK_N, other=-1)


@gluon.jit
def _copy_rows(rows, slot, part, WIDTH, FIRST):
    """Start copying columns of a tile's rows to shared memory; NONE's row becomes zeros."""
    column = FIRST + gl.arange(0, part.shape[1], gl.SliceLayout(0, _COPY))
    pointer = rows + slot.to(gl.int64)[:, None] * WIDTH + column[None, :]
    async_copy.async_copy_global_to_shared(part, pointer, mask=(slot >= 0)[:, None])


@gluon.jit
def _copy_query(query, part, heads_left, WIDTH, FIRST):
    """Start copying columns of the block's queries to shared memory; zeros for the heads that there are not."""
    head = gl.arange(0, part.shape[0], gl.SliceLayout(1, _COPY))[:, None]
    column = FIRST + gl.arange(0, part.shape[1], gl.SliceLayout(0, _COPY))[None, :]
    async_copy.async_copy_global_to_shared(part, query + head * WIDTH + column, mask=head < heads_left)


@gluon.jit
def _begin(q_latent, latent, zero):
    """Start the first half of a tile's scores. Another product waits for this one, so other work goes in between."""
    half: gl.constexpr = latent.shape[1] // 2
    values = latent.slice(0, half, 1).permute((1, 0))
    return warpgroup_mma(q_latent.slice(0, half, 1), values, zero, use_acc=False, is_async=True)


@gluon.jit
def _finish(q_latent, q_rope, latent, rope, score):
    """Do the rest of them, and wait."""
    half: gl.constexpr = latent.shape[1] // 2
    values = latent.slice(half, half, 1).permute((1, 0))
    score = warpgroup_mma(q_latent.slice(half, half, 1), values, score, is_async=True)
    score = warpgroup_mma(q_rope, rope.permute((1, 0)), score, is_async=True)
    return warpgroup_mma_wait(0, deps=[score])


@gluon.jit
def _score(
    query, q_latent, q_rope, latent, rope, weights, factors, filled, given, used, slots, sums, scale, heads_left, tiles,
    BLOCK_H, BLOCK_N, LATENT, ROPE, BUFFERS, WEIGHT_BUFFERS, SPLIT,
):  # fmt: skip
    width: gl.constexpr = LATENT + ROPE
    _copy_query(query, q_latent, heads_left, width, 0)
    _copy_query(query, q_rope, heads_left, width, LATENT)
    async_copy.commit_group()
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    entry = gl.arange(0, BLOCK_N, gl.SliceLayout(0, layout))
    zero = gl.zeros([BLOCK_H, BLOCK_N], gl.float32, layout)
    top = gl.full([BLOCK_H], _EMPTY, gl.float32, gl.SliceLayout(1, layout))
    total = gl.zeros([BLOCK_H], gl.float32, gl.SliceLayout(1, layout))
    slot = gl.load(slots + entry)
    async_copy.wait_group(0)
    gl.thread_barrier()  # every thread's part of the query is in its place
    fence_async_shared()
    mbarrier.wait(filled.index(0), 0)
    pending = _begin(q_latent, latent.index(0), zero)
    score = _finish(q_latent, q_rope, latent.index(0), rope.index(0), pending)
    for tile in range(tiles):
        # The last turn multiplies its own tile again, and nobody looks: a branch around it would cost registers.
        ahead = gl.minimum(tile + 1, tiles - 1)
        next_slot = gl.load(slots + ahead * BLOCK_N + entry)
        buffer = ahead % BUFFERS
        mbarrier.wait(filled.index(buffer), (ahead // BUFFERS) & 1)
        pending = _begin(q_latent, latent.index(buffer), zero)

        scaled = gl.where((slot >= 0)[None, :], score * scale, _EMPTY)
        # Sums shrink only when a new top would make weights large: rarely, so that the value groups can skip it.
        highest = gl.max(scaled, 1)
        new_top = gl.where(highest > top + _SLACK, highest, top)
        weight = gl.exp2(scaled - new_top[:, None])
        factor = gl.exp2(top - new_top)
        total = total * factor + gl.sum(weight, 1)
        top = new_top
        place = tile % WEIGHT_BUFFERS
        mbarrier.wait(used.index(place), ((tile // WEIGHT_BUFFERS) & 1) ^ 1)
        weights.index(place).store(weight.to(weights.dtype))
        factors.index(place).store(factor)
        fence_async_shared()
        gl.thread_barrier()
        mbarrier.arrive(given.index(place))
        score = _finish(q_latent, q_rope, latent.index(buffer), rope.index(buffer), pending)
        slot = next_slot

    place = tiles % WEIGHT_BUFFERS
    mbarrier.wait(used.index(place), ((tiles // WEIGHT_BUFFERS) & 1) ^ 1)
    factors.index(place).store(1.0 / total)
    gl.thread_barrier()
    mbarrier.arrive(given.index(place))
    if SPLIT:
        head = gl.arange(0, BLOCK_H, gl.SliceLayout(1, layout))
        gl.store(sums + head, top + gl.log2(total), mask=head < heads_left)


@gluon.jit
def _value(
    latent, rope, q_latent, weights, factors, filled, given, used, rows, slots, out, heads_left, tiles,
    SIDE, BLOCK_H, BLOCK_N, LATENT, ROPE, BUFFERS, WEIGHT_BUFFERS, SPLIT,
):  # fmt: skip
    half: gl.constexpr = LATENT // 2
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, half, 16])
    for tile in gl.static_range(BUFFERS):
        if tile < tiles:
            slot = _load_slots(slots, tile, tiles, BLOCK_N)
            _copy_rows(rows, slot, latent.index(tile).slice(SIDE * half, half, 1), LATENT + ROPE, SIDE * half)
            if SIDE == 0:
                _copy_rows(rows, slot, rope.index(tile), LATENT + ROPE, LATENT)
            async_copy.mbarrier_arrive(filled.index(tile), increment_count=False)
    acc = gl.zeros([BLOCK_H, half], gl.float32, layout)
    for tile in range(tiles):
        place = tile % WEIGHT_BUFFERS
        buffer = tile % BUFFERS
        slot = _load_slots(slots, tile + BUFFERS, tiles, BLOCK_N)
        values = latent.index(buffer).slice(SIDE * half, half, 1)
        mbarrier.wait(given.index(place), (tile // WEIGHT_BUFFERS) & 1)
        factor = factors.index(place).load(gl.SliceLayout(1, layout))
        if gl.min(factor, 0) < 1.0:
            acc = acc * factor[:, None]
        pending = warpgroup_mma(weights.index(place), values, acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[pending])
        gl.thread_barrier()
        mbarrier.arrive(used.index(place))
        if tile + BUFFERS < tiles:
            _copy_rows(rows, slot, values, LATENT + ROPE, SIDE * half)
            if SIDE == 0:
                _copy_rows(rows, slot, rope.index(buffer), LATENT + ROPE, LATENT)
            async_copy.mbarrier_arrive(filled.index(buffer), increment_count=False)
    place = tiles % WEIGHT_BUFFERS
    mbarrier.wait(given.index(place), (tiles // WEIGHT_BUFFERS) & 1)
    acc = acc * factors.index(place).load(gl.SliceLayout(1, layout))[:, None]
    if SPLIT:  # float32: what four threads write fills a sector
        head = gl.arange(0, BLOCK_H, gl.SliceLayout(1, layout))[:, None]
        column = SIDE * half + gl.arange(0, half, gl.SliceLayout(0, layout))[None, :]
        gl.store(out + head * LATENT + column, acc, mask=head < heads_left)
    else:  # the query is no longer needed: its memory turns the result into whole lines
        part = q_latent.slice(SIDE * half, half, 1)
        part.store(acc.to(out.dtype.element_ty))
        gl.thread_barrier()
        head = gl.arange(0, BLOCK_H, gl.SliceLayout(1, _COPY))[:, None]
        column = SIDE * half + gl.arange(0, half, gl.SliceLayout(0, _COPY))[None, :]
        gl.store(out + head * LATENT + column, part.load(_COPY), mask=head < heads_left)


@gluon.jit(do_not_specialize=["shares", "share_tiles"])
def attend_share_hopper(
    query, rows, slots, out, sums, scale, shares, share_tiles,
    HEADS: gl.constexpr,
    K: gl.constexpr,  # a multiple of BLOCK_N
    LATENT: gl.constexpr,
    WIDTH: gl.constexpr,
    BLOCK_H: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BUFFERS: gl.constexpr,
    WEIGHT_BUFFERS: gl.constexpr,
    SPLIT: gl.constexpr,  # there are several shares
):  # fmt: skip
    """Do what ``attention_kernels.attend_share`` does."""
    head_blocks: gl.constexpr = (HEADS + BLOCK_H - 1) // BLOCK_H
    rope_dim: gl.constexpr = WIDTH - LATENT
    dtype: gl.constexpr = rows.dtype.element_ty
    program = gl.program_id(0)  # neighbours share a token's rows: head blocks are innermost
    token = program // (shares * head_blocks)
    share = program // head_blocks % shares
    head = program % head_blocks * BLOCK_H
    heads_left = HEADS - head

    swizzled: gl.constexpr = gl.NVMMASharedLayout(128, 16)
    latent = gl.allocate_shared_memory(dtype, [BUFFERS, BLOCK_N, LATENT], swizzled)
    rope = gl.allocate_shared_memory(dtype, [BUFFERS, BLOCK_N, rope_dim], swizzled)
    q_latent = gl.allocate_shared_memory(dtype, [BLOCK_H, LATENT], swizzled)
    q_rope = gl.allocate_shared_memory(dtype, [BLOCK_H, rope_dim], swizzled)
    weights = gl.allocate_shared_memory(
        dtype, [WEIGHT_BUFFERS, BLOCK_H, BLOCK_N], gl.NVMMASharedLayout(2 * BLOCK_N, 16)
    )
    factors = gl.allocate_shared_memory(
        gl.float32, [WEIGHT_BUFFERS, BLOCK_H], gl.SwizzledSharedLayout(1, 1, 1, [0])
    )
    filled = gl.allocate_shared_memory(gl.int64, [BUFFERS, 1], mbarrier.MBarrierLayout())
    given = gl.allocate_shared_memory(gl.int64, [WEIGHT_BUFFERS, 1], mbarrier.MBarrierLayout())
    used = gl.allocate_shared_memory(gl.int64, [WEIGHT_BUFFERS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BUFFERS):
        mbarrier.init(filled.index(i), count=256)  # every thread of both value groups
    for i in gl.static_range(WEIGHT_BUFFERS):
        mbarrier.init(given.index(i), count=1)
        mbarrier.init(used.index(i), count=2)  # both value groups

    place = (token.to(gl.int64) * shares + share) * HEADS + head
    block = query + (token.to(gl.int64) * HEADS + head) * WIDTH
    share_slots = slots + token.to(gl.int64) * K + share * share_tiles * BLOCK_N
    share_out = out + place * LATENT
    tiles = gl.minimum(share_tiles, K // BLOCK_N - share * share_tiles)
    gl.warp_specialize(
        [
            (_score, (block, q_latent, q_rope, latent, rope, weights, factors, filled, given, used, share_slots,
                      sums + place, scale, heads_left, tiles, BLOCK_H, BLOCK_N, LATENT, rope_dim, BUFFERS,
                      WEIGHT_BUFFERS, SPLIT)),
            (_value, (latent, rope, q_latent, weights, factors, filled, given, used, rows, share_slots, share_out, heads_left,
                      tiles, 0, BLOCK_H, BLOCK_N, LATENT, rope_dim, BUFFERS, WEIGHT_BUFFERS, SPLIT)),
            (_value, (latent, rope, q_latent, weights, factors, filled, given, used, rows, share_slots, share_out, heads_left,
                      tiles, 1, BLOCK_H, BLOCK_N, LATENT, rope_dim, BUFFERS, WEIGHT_BUFFERS, SPLIT)),
        ],
        [4, 4],
        [168, 168],
    )  # fmt: skip
