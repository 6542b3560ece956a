"""The library of the swap-in kernels: built and loaded once, its argument structs, its errors as exceptions.

The structs repeat those of ``plan.cuh``, ``copy.cuh``, ``rows.cuh`` and ``shrink.cuh``, field by field.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_void_p
from functools import cache

import torch

from hisparse_engine.ops.gpu.build import load

UNIT = 16
"""Bytes that a thread moves at once; a row is a multiple of it."""


def _fields(pointers: str, others: str = "", wide: str = "") -> list[tuple[str, type]]:
    """Return a C struct's fields: pointers, then 64-bit, then 32-bit integers."""
    kinds = ((pointers, c_void_p), (wide, c_longlong), (others, c_int))
    return [(name, kind) for names, kind in kinds for name in names.split()]


class PlanArgs(ctypes.Structure):
    """What ``hisparse_plan_swap_in`` is given; it sets ``vectors`` itself."""

    _fields_ = _fields(
        "start home where position_at last_use buffer buffer_size now counts rows lengths positions slots newest "
        "copy_from copy_to num_copies",
        "k max_buffer num_layers vectors",
    )


class CopyArgs(ctypes.Structure):
    """What ``hisparse_copy_rows`` is given; it sets ``inverse`` itself."""

    _fields_ = [
        *_fields(
            "copy_from copy_to num_copies newest host_rows new_rows device_rows staged",
            "batch capacity units",
        ),
        ("inverse", c_longlong),
    ]


class BackupArgs(ctypes.Structure):
    """What ``hisparse_backup_rows`` is given."""

    _fields_ = [*_fields("staged host_rows home", "layers batch units"), ("host_tokens", c_longlong)]


class MoveArgs(ctypes.Structure):
    """What ``hisparse_move_rows`` is given."""

    _fields_ = [
        *_fields("device_rows group_of_layer source target count", "capacity units"),
        ("device_tokens", c_longlong),
    ]


class LocateArgs(ctypes.Structure):
    """What ``hisparse_locate`` is given."""

    _fields_ = _fields("start home rows lengths positions device_rows new_rows slots", "k units")


class ShrinkArgs(ctypes.Structure):
    """What ``hisparse_shrink_buffer`` is given."""

    _fields_ = _fields(
        "start where position_at last_use buffer buffer_size source target count",
        "row kept max_buffer capacity",
        "table_tokens device_tokens",
    )


@cache
def library() -> ctypes.CDLL:
    """Return the kernels, built for this GPU at first use; raises :class:`KernelBuildError`."""
    major, minor = torch.cuda.get_device_capability()
    built = load("swap_in", f"{major}{minor}" + ("a" if major >= 9 else ""))
    built.hisparse_error.restype = ctypes.c_char_p
    return built


@cache
def multiprocessors(device: int) -> int:
    """Return how many multiprocessors the device has."""
    count = c_int()
    check(library().hisparse_multiprocessors(device, ctypes.byref(count)))
    return count.value


def check(code: int) -> None:
    """Raise RuntimeError with CUDA's words unless ``code`` is success."""
    if code:
        raise RuntimeError(f"CUDA: {library().hisparse_error(code).decode()}")


def stream() -> c_void_p:
    """Return the current stream."""
    return c_void_p(torch.cuda.current_stream().cuda_stream)


def units_of(rows: torch.Tensor) -> int:
    """Return how many 16-byte units a row has; its rows must lie one after another."""
    row_bytes = rows.shape[-1] * rows.element_size()
    if row_bytes % UNIT or rows.data_ptr() % UNIT or not rows.is_contiguous():
        raise ValueError(
            f"rows of {row_bytes} bytes cannot be copied: they must be contiguous, aligned multiples of {UNIT} bytes"
        )
    return row_bytes // UNIT
