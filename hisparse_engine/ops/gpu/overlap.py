"""Programmatic dependent launch: a kernel is brought onto the GPU while the one before it still runs.

A kernel launched with ``**OVERLAPPED`` calls ``wait_for_inputs`` before it touches memory, in every program; the next
such kernel may then be launched at once. Kernels launched plainly are ordered as ever.
"""

from __future__ import annotations

import triton
import triton.language as tl

_INTERPRETED = triton.knobs.runtime.interpret

OVERLAPPED: dict[str, bool] = {"PDL": False} if _INTERPRETED else {"PDL": True, "launch_pdl": True}
"""Launch arguments."""


@triton.jit
def wait_for_inputs(PDL: tl.constexpr):
    """Wait until every kernel before this one has finished; let the one behind it be launched."""
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def prefetch(lines):
    """Ask for the 128-byte lines at these addresses to be in the L2 cache; nothing waits for them."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [lines], dtype=tl.int32, is_pure=False, pack=1
    )
