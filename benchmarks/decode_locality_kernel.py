"""The locality model in one kernel: what ``Locality.positions`` computes in thirty, for one index group."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from benchmarks.decode_locality import Locality

_BLOCK = 1024


def write_positions(
    locality: Locality,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    out: torch.Tensor,
    *,
    context: int,
    group: int,
    past: int = 0,
) -> None:
    """Write ``group``'s positions to ``out`` int32 ``[batch, top_k]``; ``starts`` int64 and ``lengths`` int32 ``[batch]``.

    All requests had ``context`` tokens at admission; a request's name is its start, as int32.
    """
    grid = (len(lengths), triton.cdiv(locality.top_k, _BLOCK))
    _positions[grid](
        starts, lengths, out, context, group, past, locality.seed, *locality.rates,
        TOP_K=locality.top_k, WINDOW=locality.window, SKEW=locality.skew, BLOCK=_BLOCK,
    )  # fmt: skip


@triton.jit(
    do_not_specialize=["context", "group", "past", "seed", "rate0", "rate1", "rate2", "rate3", "rate4"]
)
def _positions(
    starts, lengths, out, context, group, past, seed, rate0, rate1, rate2, rate3, rate4,
    TOP_K: tl.constexpr, WINDOW: tl.constexpr, SKEW: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    row = tl.program_id(0)
    lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    length = tl.load(lengths + row)
    request = tl.load(starts + row).to(tl.int32)
    name = _mixed(lane + _mixed(group * 0x3C6F + request * 0x61C9 + seed))

    older = tl.maximum(context - WINDOW, 0)
    first = _share(lane, older, TOP_K - WINDOW)
    size = tl.maximum(_share(lane + 1, older, TOP_K - WINDOW) - first, 1)

    kind = (name >> 3) % 5
    rate = tl.where(kind == 0, rate0, tl.where(kind == 1, rate1, tl.where(kind == 2, rate2, rate3)))
    rate = tl.where(kind == 4, rate4, rate)
    clock = (_mixed(name ^ 0x1B87) & 0xFFFF) + (length - context - past) * rate
    block = clock >> 16
    epoch = block + ((clock & 0xFFFF) >= (_mixed(name ^ (block * 0x2C1B)) & 0xFFFF)).to(tl.int32)

    chance = (_mixed(name ^ (epoch * 0x5A35)) & 0xFFFFFF).to(tl.float32) * 5.9604644775390625e-08  # 2^-24
    power = chance
    for _ in tl.static_range(SKEW - 1):
        power = power * chance
    rank = (power * size.to(tl.float32)).to(tl.int32)
    picked = first + ((name & 0xFFFF) + rank * 40009) % size

    chosen = tl.where(lane < TOP_K - WINDOW, picked, length - TOP_K + lane)
    short = tl.where(lane < length, lane, -1)
    is_long = (context > TOP_K) & (length > TOP_K)
    tl.store(out + row * TOP_K + lane, tl.where(is_long, chosen, short), mask=lane < TOP_K)


@triton.jit
def _mixed(x):
    x = (x ^ (x >> 15)) * 0x2C1B3C6D
    x = (x ^ (x >> 12)) * 0x297A2D39
    return (x ^ (x >> 15)) & 0x7FFFFFFF


@triton.jit
def _share(part, whole, parts):
    return (whole // parts) * part + (whole % parts) * part // parts
