"""What a token's KV row, latents and index key are made of, on CUDA: the device functions behind ``latents``.

Every value is rounded to the model's dtype where the layer-by-layer computation rounds it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hisparse_engine.ops.gpu.rotation import rotate_pair

_LARGEST_E4M3 = tl.constexpr(448.0)
_SMALLEST_LARGEST = tl.constexpr(1e-4)  # of a group's numbers: zeros stay zeros


@triton.jit
def normed_latent(
    projected,
    bias,
    start,
    weight,
    eps,
    SIZE: tl.constexpr,
    LANES: tl.constexpr,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    kind: tl.constexpr,
):
    """Return normed values ``[LANES]`` in ``kind``, zeros past ``SIZE``."""
    lane = tl.arange(0, LANES)
    inside = lane < SIZE
    value = _projected(projected, bias, start + lane, inside, SPLITS, COLUMNS, kind)
    scale = tl.rsqrt(tl.sum(value * value, axis=0) / SIZE + eps)
    unit = (value * scale).to(kind).to(tl.float32)
    normed = unit * tl.load(weight + lane, mask=inside, other=0.0).to(tl.float32)
    return normed.to(kind)


@triton.jit
def store_float8(values, latent, scales, SIZE: tl.constexpr, LANES: tl.constexpr, GROUP: tl.constexpr):
    """Quantise as ``ops.reference.attention.quantise_rows`` does; divisions are rounded as IEEE says."""
    group = tl.arange(0, LANES // GROUP)
    lane = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    grouped = tl.reshape(values.to(tl.float32), (LANES // GROUP, GROUP))
    largest = tl.maximum(tl.max(tl.abs(grouped), axis=1), _SMALLEST_LARGEST)
    scale = tl.div_rn(largest, tl.full([LANES // GROUP], _LARGEST_E4M3, tl.float32))
    scaled = tl.div_rn(grouped, tl.broadcast_to(scale[:, None], (LANES // GROUP, GROUP)))
    tl.store(latent + lane, scaled.to(latent.dtype.element_ty), mask=lane < SIZE)
    tl.store(scales + group, scale, mask=group < SIZE // GROUP)


@triton.jit
def rope_key(
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
    """Write the rotated rope key of a KV row, in ``out``'s dtype."""
    inside = pair < HALF
    first = _projected(projected, bias, start + 2 * pair, inside, SPLITS, COLUMNS, kind)
    second = _projected(projected, bias, start + 2 * pair + 1, inside, SPLITS, COLUMNS, kind)
    one, two = rotate_pair(first, second, cos, sin, kind)
    tl.store(out + pair, one.to(out.dtype.element_ty), mask=inside)
    tl.store(out + HALF + pair, two.to(out.dtype.element_ty), mask=inside)


@triton.jit
def index_key(
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
def head_weights(
    projected,
    weights,
    scale,
    HEADS: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write the indexer's head weights: the sums of their parts, scaled."""
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
