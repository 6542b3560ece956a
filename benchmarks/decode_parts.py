"""Where a step's time goes: device kernels by part, and the time in which the device had nothing to do.

From a profile of whole steps (CUDA graphs included): every kernel and copy has a name, a start and a duration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

PARTS: tuple[tuple[str, str], ...] = (
    ("plan and copy", r"plan_swap_in|copy_spread|copy_affine|copy_rows|locate"),
    ("backup", r"backup_rows|Memcpy DtoH"),
    ("select", r"take_best|score_positions|store_(index_)?keys"),
    ("attend", r"attend_share|add_shares"),
    ("experts", r"gated_up|_down_kernel|_sort_kernel|_route_kernel"),
    ("norms and rotation", r"rms_norm|split_latents|rotate_queries|silu_mul"),
    ("sampling", r"ArgMax"),
    ("projections", r"gemm|gemv|skinny|nvjet|cutlass|cublas|splitK|xmma"),
)
"""Part → what its kernels' names contain; the first that matches."""
OTHER, IDLE = "locality model and rest", "nothing runs"
ORDER = (
    "projections", "norms and rotation", "experts", "select", "plan and copy", "attend", "backup", "sampling", OTHER, IDLE
)  # fmt: skip


class Kernel(NamedTuple):
    """One kernel or copy on the device; microseconds."""

    name: str
    start: float
    duration: float


def part_of(name: str) -> str:
    """Return the part of a step that a kernel belongs to."""
    return next((part for part, pattern in PARTS if re.search(pattern, name, re.IGNORECASE)), OTHER)


def split(kernels: Iterable[Kernel], steps: int) -> dict[str, float]:
    """Return milliseconds a step of every part, and those in which nothing ran between the first kernel and the last.

    While several run, each counts for its share of the time: the parts add up to the whole.
    """
    parts = dict.fromkeys(ORDER, 0.0)
    edges = sorted(edge for number, kernel in enumerate(kernels) for edge in _edges(number, kernel))
    running: dict[int, str] = {}
    before = edges[0][0] if edges else 0.0
    for time, number, part in edges:
        for active in running.values() or (IDLE,):
            parts[active] += (time - before) / max(1, len(running))
        before = time
        if number in running:
            del running[number]
        else:
            running[number] = part
    return {part: round(total / steps / 1000, 4) for part, total in parts.items()}


def _edges(number: int, kernel: Kernel) -> list[tuple[float, int, str]]:
    part = part_of(kernel.name)
    return [(kernel.start, number, part), (kernel.start + kernel.duration, number, part)]


def unnamed(kernels: Iterable[Kernel], most: int = 12) -> dict[str, float]:
    """Return the longest of the kernels that belong to no part, name → microseconds in all: what PARTS should learn."""
    totals: dict[str, float] = {}
    for kernel in kernels:
        if part_of(kernel.name) == OTHER:
            totals[kernel.name[:120]] = totals.get(kernel.name[:120], 0.0) + kernel.duration
    return dict(sorted(totals.items(), key=lambda item: -item[1])[:most])


def profile(step: Callable[[], object], steps: int) -> list[Kernel]:
    """Run ``steps`` steps under PyTorch's profiler; return what ran on the device. Needs CUDA.

    The profiler's library (CUPTI) is kept from leaving and coming back: that and CUDA graphs end in illegal accesses
    (pytorch/pytorch #75504, #112507).
    """
    os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")
    os.environ.setdefault("TEARDOWN_CUPTI", "0")
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as recording:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    return [
        Kernel(event.name, event.time_range.start, event.time_range.elapsed_us())
        for event in recording.events() or ()
        if str(event.device_type).endswith("CUDA")
    ]
