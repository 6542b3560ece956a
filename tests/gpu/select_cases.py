"""What the check of ``select`` on a CUDA device runs: shapes, their tensors, and scores that are hard on a top-k."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from hisparse_engine.ops.gpu.select import select, store_index_keys
from hisparse_engine.ops.tables import IndexKeyRows


@dataclass(frozen=True)
class Shape:
    """One case; ``keys`` is what the index holds, ``one_request`` a prompt's chunk."""

    keys: torch.dtype
    query: torch.dtype
    heads: int
    dim: int
    k: int
    lengths: tuple[int, ...]
    one_request: bool = False


@dataclass(frozen=True)
class Inputs:
    """The tensors of one case, on the device."""

    query: torch.Tensor
    weights: torch.Tensor
    index: IndexKeyRows
    key_slots: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor

    def run(self, k: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return positions and scores; both are poisoned before."""
        out = torch.full((len(self.lengths), k), -77, dtype=torch.int32, device="cuda")
        scores = torch.full((len(self.lengths), width), torch.nan, device="cuda")
        select(self.query, self.weights, self.index, self.key_slots, self.starts, self.lengths, out, scores)
        return out, scores


def make_inputs(shape: Shape) -> Inputs:
    """Draw a case: every request's keys in slots of no order, stored by the kernel under test."""
    tokens, device = len(shape.lengths), "cuda"
    count = max(shape.lengths) if shape.one_request else sum(shape.lengths)
    slots = count + 1000
    fp8 = shape.keys == torch.float8_e4m3fn
    stored = torch.zeros(slots, shape.dim, device=device).to(shape.keys)
    index = IndexKeyRows(stored, torch.ones(slots, device=device) if fp8 else None)
    key_slots = torch.randperm(slots, device=device)[: max(count, 1)].int()
    wide = torch.bfloat16 if fp8 else shape.keys
    store_index_keys(index, key_slots, torch.randn(len(key_slots), shape.dim, device=device).to(wide))
    if shape.one_request:
        starts = torch.zeros(1, dtype=torch.int64, device=device).expand(tokens)
    else:
        ends = torch.tensor(shape.lengths, device=device).cumsum(0)
        starts = ends - torch.tensor(shape.lengths, device=device)
    return Inputs(
        torch.randn(tokens, shape.heads, shape.dim, device=device).to(shape.query),
        torch.randn(tokens, shape.heads, device=device),
        index,
        key_slots,
        starts,
        torch.tensor(shape.lengths, dtype=torch.int32, device=device),
    )


def moved(inputs: Inputs) -> Inputs:
    """Return the same keys in other slots."""
    order = torch.randperm(len(inputs.index.keys), device="cuda")
    keys = torch.empty_like(inputs.index.keys)
    keys.view(torch.uint8)[order] = inputs.index.keys.view(torch.uint8)
    scales = None
    if inputs.index.scales is not None:
        scales = torch.empty_like(inputs.index.scales)
        scales[order] = inputs.index.scales
    return replace(inputs, index=IndexKeyRows(keys, scales), key_slots=order[inputs.key_slots.long()].int())


def cases(quick: bool) -> Iterator[Shape]:
    """Yield fixed cases, then random ones."""
    bf16, fp8, fp32 = torch.bfloat16, torch.float8_e4m3fn, torch.float32
    yield Shape(bf16, bf16, 64, 128, 64, (300, 0, 64, 65, 1))
    yield Shape(fp8, bf16, 32, 128, 64, (300, 0, 64, 65, 1))
    yield Shape(fp8, bf16, 16, 16, 32, (130,))
    yield Shape(fp32, fp32, 16, 32, 16, (100, 31))
    yield Shape(bf16, bf16, 64, 128, 64, tuple(range(60, 75)), one_request=True)
    yield Shape(fp8, bf16, 64, 128, 64, tuple(range(60, 75)), one_request=True)
    if quick:
        return
    for keys in (bf16, fp8):
        for heads in (32, 64):
            yield Shape(keys, bf16, heads, 128, 2048, (131072, 40_000, 2048, 2049, 100, 0, 32768, 8191))
            yield Shape(keys, bf16, heads, 128, 2048, (163_840,))
            yield Shape(keys, bf16, heads, 128, 2048, tuple(range(1900, 2412)), one_request=True)
            yield Shape(keys, bf16, heads, 128, 2048, tuple(random.choices(range(9000), k=256)))
    dice = random.Random(1)
    for _ in range(24):
        keys = dice.choice((bf16, fp8, fp32))
        query = fp32 if keys == fp32 else bf16
        one = dice.random() < 0.3 and keys != fp32
        longest, tokens = dice.choice((50, 700, 5000, 20_000)), dice.choice((1, 2, 5, 17, 64))
        first = dice.randint(0, longest)
        lengths = range(first, first + tokens) if one else [dice.randint(0, longest) for _ in range(tokens)]
        heads, dim = (
            (16, 32) if keys == fp32 else dice.choice(((64, 128), (32, 128), (16, 32)))
        )  # each is compiled
        yield Shape(keys, query, heads, dim, dice.choice((1, 128, 2048)), tuple(lengths), one)


def score_rows(rows: int, width: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield scores that are hard on a top-k: ties, zeros, outliers, huge and tiny ranges."""
    normal = torch.randn(rows, width, device="cuda")
    yield "normal", normal
    yield "relu", torch.relu(normal - 1.5)
    yield "few values", torch.randint(-3, 4, (rows, width), device="cuda").float()
    yield "one value", torch.zeros(rows, width, device="cuda")
    yield "signed zeros", torch.where(normal > 0, 0.0, -0.0)
    yield "outlier", normal.index_fill(1, torch.tensor([width // 2], device="cuda"), 1e30)
    yield "exponential", torch.exp(20 * normal)
    yield "huge", normal * 4e37
    yield "tiny", normal * 1e-41
