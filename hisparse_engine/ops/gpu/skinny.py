"""Linear layers over few rows, on CUDA: bound by reading the weight, so its depth is split to fill the GPU.

The partial sums are left to the kernel that reads the result: no reduction kernel, and no rounding in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.overlap import OVERLAPPED, prefetch, wait_for_inputs

MAX_ROWS = 64
"""Beyond this many rows cuBLAS is faster."""


_PREFETCHED_LINES = 16
"""L2 lines of each weight row's part that are asked for while the kernel before still runs; a power of two."""

_LINE = 64  # bf16 elements in 128 bytes


@dataclass(frozen=True)
class _Cut:
    """Columns and depth of a tile, and stages of its pipeline."""

    columns: int
    depth: int
    stages: int
    prefetched: bool


_FEW_ROWS = 16
_FEW = _Cut(32, 128, 5, prefetched=True)
_MORE = _Cut(64, 64, 6, prefetched=True)
_BY_HEAD = _Cut(64, 64, 4, prefetched=False)  # what runs before it fills the memory's bandwidth


def split_linear(x: torch.Tensor, weight: torch.Tensor, splits: int) -> torch.Tensor:
    """Return fp32 ``[rows, splits, columns]``, whose sum over the splits is ``x [rows, depth] · weightᵀ``."""
    out = torch.empty(len(x), splits, len(weight), dtype=torch.float32, device=x.device)
    _launch(x.unsqueeze(1), weight.unsqueeze(0), out, splits, _FEW if len(x) <= _FEW_ROWS else _MORE)
    return out


def skinny_linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return ``x [rows, depth] · weightᵀ`` in ``x``'s dtype."""
    out = x.new_empty(len(x), 1, len(weight))
    _launch(x.unsqueeze(1), weight.unsqueeze(0), out, 1, _FEW if len(x) <= _FEW_ROWS else _MORE)
    return out.squeeze(1)


def linear_by_head(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    """Write each head's ``x · weight`` to ``out [rows, heads, columns]``.

    ``x [rows, heads, depth]``, ``weight [heads, depth, columns]``: views with any strides but these: ``x`` and ``out``
    are contiguous along their last axis.
    """
    _launch(x, weight.transpose(1, 2), out, 1, _BY_HEAD)


def _launch(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, splits: int, cut: _Cut) -> None:
    """``weight [heads, columns, depth]``; ``out`` has splits on axis 1, or heads."""
    (rows, heads, depth), columns = x.shape, weight.shape[1]
    assert rows <= MAX_ROWS, f"{rows} rows"
    part = triton.cdiv(depth, splits * cut.depth) * cut.depth
    _skinny_kernel[(triton.cdiv(columns, cut.columns), splits, heads)](
        x,
        weight,
        out,
        rows,
        COUNT=columns,
        FULL_DEPTH=depth,
        X_ROW=x.stride(0),
        X_HEAD=x.stride(1),
        WEIGHT_HEAD=weight.stride(0),
        WEIGHT_COLUMN=weight.stride(1),
        WEIGHT_DEPTH=weight.stride(2),
        OUT_ROW=out.stride(0),
        OUT_PART=out.stride(1),
        SPLITS=splits,
        PART=part,
        ROWS=max(16, triton.next_power_of_2(rows)),
        COLUMNS=cut.columns,
        DEPTH=cut.depth,
        LINES=min(_PREFETCHED_LINES, 1 << (part // _LINE).bit_length() - 1) if cut.prefetched else 0,
        num_warps=4,
        num_stages=cut.stages,
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
    X_ROW: tl.constexpr,
    X_HEAD: tl.constexpr,
    WEIGHT_HEAD: tl.constexpr,
    WEIGHT_COLUMN: tl.constexpr,
    WEIGHT_DEPTH: tl.constexpr,
    OUT_ROW: tl.constexpr,
    OUT_PART: tl.constexpr,
    SPLITS: tl.constexpr,
    PART: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    LINES: tl.constexpr,
    PDL: tl.constexpr,
):
    """Axis 0: columns; axis 1: parts of the depth; axis 2: heads, of which there are many only without parts."""
    WHOLE: tl.constexpr = FULL_DEPTH == PART * SPLITS
    split, head = tl.program_id(1), tl.program_id(2).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    begin = split * PART
    weight_row = weight + head * WEIGHT_HEAD + begin * WEIGHT_DEPTH
    real = column if COUNT % COLUMNS == 0 else tl.minimum(column, COUNT - 1)
    weight_row += real[:, None].to(tl.int64) * WEIGHT_COLUMN
    if PDL and WHOLE and LINES > 0:  # no kernel writes weights: no need to wait
        prefetch(weight_row + 64 * tl.arange(0, LINES)[None, :])
    wait_for_inputs(PDL)
    row = tl.arange(0, ROWS)
    depth = tl.arange(0, DEPTH)
    there = (row < rows)[:, None]
    x_at = x + head * X_HEAD + row[:, None].to(tl.int64) * X_ROW + begin + depth[None, :]
    weight_at = weight_row + depth[None, :] * WEIGHT_DEPTH
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for start in range(0, PART, DEPTH):
        if WHOLE:
            a = tl.load(x_at + start, mask=there, other=0.0)
            w = tl.load(weight_at + start * WEIGHT_DEPTH)
        else:
            inside = depth[None, :] < FULL_DEPTH - begin - start
            a = tl.load(x_at + start, mask=there & inside, other=0.0)
            w = tl.load(weight_at + start * WEIGHT_DEPTH, mask=inside, other=0.0)
        total = tl.dot(a, w.T, total)
    out_at = out + row[:, None].to(tl.int64) * OUT_ROW + (head + split) * OUT_PART + column[None, :]
    tl.store(out_at, total.to(out.dtype.element_ty), mask=there & (column < COUNT)[None, :])
