"""How much memory there is on this machine."""

from __future__ import annotations

import os
from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes that there are: free on the GPU, and of main memory in all."""

    device_free: int
    host: int


def memory_of_gpu_and_host() -> Memory:
    """Ask CUDA and the kernel; where there is no GPU, nobody should ask."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return Memory(free, main_memory_bytes())


def main_memory_bytes() -> int:
    """Return this machine's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
