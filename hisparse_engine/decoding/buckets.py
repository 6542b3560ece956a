"""The fixed sizes that steps are made for: plain numbers, for the decoder and for the plan. Needs no torch."""

from __future__ import annotations

PREFILL_BLOCK = 256
"""Prompt tokens whose index scores are held at once."""

_STEPS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def bucket_sizes(max_running: int) -> list[int]:
    """Return the batch sizes that get a graph each, ascending: a batch runs in the smallest that holds it."""
    return [*(size for size in _STEPS if size < max_running), max_running]
