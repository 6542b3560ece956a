"""Stacked linear layers for bf16 on CUDA: projections of one input in one weight, fp32 ones as exact bf16 parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisparse_engine.models.weights import WeightSource


def read_stacked(
    weights: WeightSource,
    names_and_rows: Sequence[tuple[str, int]],
    columns: int,
    extra: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Read weights ``[rows, columns]`` into one, one below the other, and ``extra`` ones below them."""
    rows = sum(count for _, count in names_and_rows)
    stacked = weights.empty(rows + sum(len(part) for part in extra), columns)
    start = 0
    for name, count in names_and_rows:
        weights.read_into(stacked[start : start + count], name)
        start += count
    for part in extra:
        stacked[start : start + len(part)].copy_(part)
        start += len(part)
    return stacked


def bf16_parts(wide: torch.Tensor) -> list[torch.Tensor]:
    """Split an fp32 tensor into at most three bf16 ones whose sum it is, to its last bit; one where bf16 holds it.

    A product with a bf16 input is then a sum of exact products, added in fp32: as accurate as an fp32 product.
    """
    parts: list[torch.Tensor] = []
    rest = wide
    for _ in range(3):
        parts.append(rest.bfloat16())
        rest = rest - parts[-1].float()
        if not rest.any():
            break
    return parts


def linear_fp32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``x · weightᵀ`` for bf16 operands, returned in fp32 as it was accumulated."""
    return torch.mm(x, weight.t(), out_dtype=torch.float32)
