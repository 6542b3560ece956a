"""One pinned stretch of host memory, for as many engines as a run makes: pinning 80 GiB takes longer than measuring.

Allocated by ``mmap`` and registered: PyTorch's pinned allocator would round 80 GiB up to 128.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from hisparse_engine import two_tier
from hisparse_engine.memory.pool import TokenPool


class HostMemory:
    """``num_bytes`` of host memory, pinned where there is a CUDA device."""

    def __init__(self, num_bytes: int, *, pin: bool) -> None:
        self._map = mmap.mmap(-1, num_bytes)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        self.bytes.zero_()  # touches every page, by all threads
        if pin:
            status = torch.cuda.cudart().cudaHostRegister(self.bytes.data_ptr(), num_bytes, 0)
            if int(status) != 0:
                raise MemoryError(
                    f"pinning {num_bytes / 2**30:.1f} GiB of host memory failed: CUDA error {status}"
                )

    def fill(self, tile: torch.Tensor) -> None:
        """Write ``tile``, uint8, over and over."""
        for part in self.bytes.split(tile.numel()):
            part.copy_(tile[: part.numel()], non_blocking=True)

    def rows(self, num_layers: int, capacity: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the first bytes as ``[num_layers, capacity, width]``."""
        needed = num_layers * capacity * width * dtype.itemsize
        if needed > self.bytes.numel():
            raise MemoryError(
                f"a host pool of {needed} bytes does not fit the {self.bytes.numel()} that there are"
            )
        return self.bytes[:needed].view(dtype).view(num_layers, capacity, width)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Make the host pools that are allocated meanwhile live here."""

        def make(capacity: int, num_layers: int, width: int, **how: Any) -> TokenPool:
            if "pinned" not in how:  # a pool of the device's
                return TokenPool(capacity, num_layers, width, **how)
            pool = TokenPool(
                capacity, 0, 0, **{**how, "pinned": False}
            )  # an account of all slots, without rows
            pool.rows = self.rows(num_layers, capacity, width, how["dtype"])
            pool.row_bytes = width * pool.rows.itemsize
            return pool

        with mock.patch.object(two_tier, "TokenPool", make):
            yield
