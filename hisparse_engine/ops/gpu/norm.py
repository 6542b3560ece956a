"""Residual sum and root-mean-square norm in one pass over a row, on CUDA."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs


def add_rms_norm(
    x: torch.Tensor,
    terms: torch.Tensor | None,
    factors: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (``x + Σ_i factors[:, i] · terms[:, i]``, its norm times ``weight``), each ``[tokens, hidden]``.

    ``x [tokens, hidden]``, ``terms [tokens, n, hidden]``, ``factors`` fp32 ``[tokens, n]`` (None: ones), ``weight
    [hidden]``. Summed in fp32 in this order and rounded once; without ``terms`` the sum is ``x`` itself.
    """
    total = x if terms is None else torch.empty_like(x)
    normed = torch.empty_like(x)
    hidden = x.shape[1]
    block = triton.next_power_of_2(hidden)
    if len(x):
        _add_rms_norm_kernel[(len(x),)](
            x,
            terms,
            factors,
            weight,
            total,
            normed,
            eps,
            HIDDEN=hidden,
            TERMS=0 if terms is None else terms.shape[1],
            WEIGHED=factors is not None,
            BLOCK=block,
            num_warps=max(1, min(16, block // 512)),
            **OVERLAPPED,
        )
    return total, normed


@triton.jit
def _add_rms_norm_kernel(
    x,
    terms,
    factors,
    weight,
    total,
    normed,
    eps,
    HIDDEN: tl.constexpr,
    TERMS: tl.constexpr,
    WEIGHED: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    wait_for_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < HIDDEN
    kind = normed.dtype.element_ty
    wide = tl.zeros([BLOCK], dtype=tl.float32)
    for i in tl.static_range(TERMS):
        term = tl.load(terms + (row * TERMS + i) * HIDDEN + column, mask=inside, other=0.0).to(tl.float32)
        if WEIGHED:
            term *= tl.load(factors + row * TERMS + i)
        wide += term
    wide += tl.load(x + row * HIDDEN + column, mask=inside, other=0.0).to(tl.float32)
    if TERMS > 0:
        rounded = wide.to(kind)
        tl.store(total + row * HIDDEN + column, rounded, mask=inside)
        wide = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide) / HIDDEN + eps)
    unit = (wide * scale).to(kind).to(tl.float32)
    scaled = unit * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row * HIDDEN + column, scaled.to(kind), mask=inside)
