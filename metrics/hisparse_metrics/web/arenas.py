"""One heap for all threads: with glibc's default each thread of a scrape storm keeps a heap of its own for ever."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8


def use_one_arena() -> bool:
    """Tell glibc so; return whether this C library knows it. For a process of ours, before it starts threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_ARENA_MAX, 1))
