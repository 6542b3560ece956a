"""Linear layers over few rows, on CUDA: bound by reading the weight, so its depth is split to fill the GPU.

The partial sums are left to the kernel that reads the result: no reduction kernel, and no rounding in between.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs

MAX_ROWS = 16
"""Beyond this many rows cuBLAS is as fast, or faster."""

_COLUMNS = 32
_DEPTH = 128


def split_linear(x: torch.Tensor, weight: torch.Tensor, splits: int) -> torch.Tensor:
    """Return fp32 ``[rows, splits, columns]``, whose sum over the splits is ``x [rows, depth] · weightᵀ``."""
    out = torch.empty(len(x), splits, len(weight), dtype=torch.float32, device=x.device)
    _launch(x, weight, out, splits)
    return out


def skinny_linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return ``x [rows, depth] · weightᵀ`` in ``x``'s dtype."""
    out = x.new_empty(len(x), len(weight))
    _launch(x, weight, out, 1)
    return out


def _launch(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, splits: int) -> None:
    rows, depth = x.shape
    assert rows <= MAX_ROWS, f"{rows} rows"
    _skinny_kernel[(triton.cdiv(len(weight), _COLUMNS), splits)](
        x,
        weight,
        out,
        rows,
        COUNT=len(weight),
        FULL_DEPTH=depth,
        SPLITS=splits,
        PART=triton.cdiv(depth, splits * _DEPTH) * _DEPTH,
        ROWS=MAX_ROWS,
        COLUMNS=_COLUMNS,
        DEPTH=_DEPTH,
        num_warps=4,
        num_stages=5,
        **OVERLAPPED,
    )


@triton.jit(do_not_specialize=["rows"])
def _skinny_kernel(
    x,
    weight,
    out,
    rows,
    COUNT: tl.constexpr,
    FULL_DEPTH: tl.constexpr,
    SPLITS: tl.constexpr,
    PART: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PDL: tl.constexpr,
):
    """Axis 0: columns; axis 1: parts of the depth."""
    wait_for_inputs(PDL)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    begin = tl.program_id(1) * PART
    row = tl.arange(0, ROWS)
    depth = tl.arange(0, DEPTH)
    there = (row < rows)[:, None]
    x_at = x + row[:, None].to(tl.int64) * FULL_DEPTH + begin + depth[None, :]
    real = tl.minimum(column, COUNT - 1)[:, None].to(tl.int64)
    weight_at = weight + real * FULL_DEPTH + begin + depth[None, :]
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for start in range(0, PART, DEPTH):
        if FULL_DEPTH == PART * SPLITS:
            a = tl.load(x_at + start, mask=there, other=0.0)
            w = tl.load(weight_at + start)
        else:
            inside = depth[None, :] < FULL_DEPTH - begin - start
            a = tl.load(x_at + start, mask=there & inside, other=0.0)
            w = tl.load(weight_at + start, mask=inside, other=0.0)
        total = tl.dot(a, w.T, total)
    out_at = out + (row[:, None].to(tl.int64) * SPLITS + tl.program_id(1)) * COUNT + column[None, :]
    tl.store(out_at, total.to(out.dtype.element_ty), mask=there & (column < COUNT)[None, :])
