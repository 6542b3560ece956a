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
