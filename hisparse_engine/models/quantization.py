"""Block-scaled fp8 weights → the dtype that the layers compute in, a few rows at a time.

Exact: each element is ``float32(weight) × float32(scale of its block)``, rounded once into the output's dtype.
"""

from __future__ import annotations

import torch

MAX_TEMPORARY_ELEMENTS = 1 << 20
"""Bound on the float32 temporaries (4 MiB each): weights never exist twice in full."""


def scale_shape(shape: tuple[int, int], block_shape: tuple[int, int]) -> tuple[int, int]:
    """Shape of the scales of a ``shape`` weight; blocks at the right and lower edge may be ragged."""
    return -(-shape[0] // block_shape[0]), -(-shape[1] // block_shape[1])


def dequantise_into(
    out: torch.Tensor, weight: torch.Tensor, scale_inv: torch.Tensor, block_shape: tuple[int, int]
) -> None:
    """Write the values of a block-scaled weight into ``out``.

    ``out``: [rows, columns], any float dtype and device; ``weight``: the same shape, float8_e4m3fn;
    ``scale_inv``: ``scale_shape(...)``, any float dtype, the factor that gives the value back.
    """
    rows, columns = weight.shape
    block_rows, block_columns = block_shape
    step = max(1, MAX_TEMPORARY_ELEMENTS // (columns * block_rows)) * block_rows
    for row in range(0, rows, step):
        values = weight[row : row + step].to(out.device).float()
        scales = scale_inv[row // block_rows : -(-(row + step) // block_rows)].to(out.device).float()
        _scale_rows(values, scales.repeat_interleave(block_columns, dim=1)[:, :columns], block_rows)
        out[row : row + step].copy_(values)


def _scale_rows(values: torch.Tensor, scales: torch.Tensor, block_rows: int) -> None:
    """Multiply [rows, columns] in place; row ``i`` of ``scales`` is for ``block_rows`` rows, the last may have fewer."""
    whole = values.shape[0] // block_rows
    values[: whole * block_rows].view(whole, block_rows, values.shape[1]).mul_(scales[:whole, None])
    values[whole * block_rows :].mul_(scales[whole:])
