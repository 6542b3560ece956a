"""Stacked linear layers for bf16 on CUDA: projections of one input in one weight, fp32 ones as exact bf16 parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812

from hisparse_engine.models.weights import WeightSource
from hisparse_engine.ops.gpu.skinny import MAX_ROWS, skinny_linear, split_linear


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


def linear_fp32(x: torch.Tensor, weight: torch.Tensor, splits: int) -> torch.Tensor:
    """Return fp32 ``[rows, splits or 1, columns]``, whose sum over axis 1 is ``x · weightᵀ`` for bf16 operands."""
    if len(x) <= MAX_ROWS:
        return split_linear(x, weight, splits)
    return torch.mm(x, weight.t(), out_dtype=torch.float32).unsqueeze(1)


def linear_terms(x: torch.Tensor, weight: torch.Tensor, splits: int) -> torch.Tensor:
    """Return terms, fp32 or bf16 ``[rows, splits or 1, columns]``, whose sum is ``x · weightᵀ``."""
    if len(x) <= MAX_ROWS:
        return split_linear(x, weight, splits)
    return F.linear(x, weight).unsqueeze(1)


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``x · weightᵀ`` in bf16."""
    return skinny_linear(x, weight) if len(x) <= MAX_ROWS else F.linear(x, weight)
