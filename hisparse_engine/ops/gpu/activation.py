"""SiLU gating in one pass, on CUDA."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs

_BLOCK = 1024


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) · up`` of ``gate_up [tokens, 2 · width]``, gate first: ``[tokens, width]``, rounded after each step."""
    tokens, width = len(gate_up), gate_up.shape[1] // 2
    out = gate_up.new_empty(tokens, width)
    if tokens:
        _silu_mul_kernel[(tokens, triton.cdiv(width, _BLOCK))](
            gate_up,
            out,
            WIDTH=width,
            BLOCK=_BLOCK,
            **OVERLAPPED,
        )
    return out


@triton.jit
def _silu_mul_kernel(gate_up, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr):
    wait_for_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    kind = out.dtype.element_ty
    gate = tl.load(gate_up + row * 2 * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * WIDTH + WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    silu = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)
    tl.store(out + row * WIDTH + column, (silu * up).to(kind), mask=inside)
