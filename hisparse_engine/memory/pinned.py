"""Pinned host memory of exactly the size asked for.

PyTorch's own pinned allocator rounds up to a power of two (90 GiB would take 128) and touches every page twice. Here
the memory is mapped, in huge pages where the kernel gives them, and then registered with CUDA.
"""

from __future__ import annotations

import math
import mmap
import weakref

import torch

from hisparse_engine.errors import CapacityError


def pinned_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return zeros that the device can read and write, and that copies may overlap with.

    Raises :class:`CapacityError` when the machine does not give that much memory, or does not let it be pinned.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes == 0:
        return torch.zeros(shape, dtype=dtype)
    try:
        memory = mmap.mmap(-1, num_bytes)
    except (OSError, ValueError) as error:
        raise CapacityError(_too_much(num_bytes, str(error))) from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    flat = torch.frombuffer(memory, dtype=dtype)
    address = flat.data_ptr()
    code = torch.cuda.cudart().cudaHostRegister(address, num_bytes, 0)  # type: ignore[no-untyped-call]
    if int(code) != 0:
        raise CapacityError(_too_much(num_bytes, f"CUDA error {int(code)} while pinning"))
    # Before the map goes, so that CUDA never holds an address that means something else.
    weakref.finalize(memory, torch.cuda.cudart().cudaHostUnregister, address)  # type: ignore[no-untyped-call]
    return flat.view(shape)


def _too_much(num_bytes: int, reason: str) -> str:
    return (
        f"host pool: {num_bytes / (1 << 30):.1f} GiB of pinned memory cannot be had ({reason}); lower --host-tokens or "
        "--host-memory-gib, or raise the machine's limit (ulimit -l, the container's memory)"
    )
