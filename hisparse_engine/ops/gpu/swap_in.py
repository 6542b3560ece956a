"""Swap-in on a CUDA device: the kernels of ``swap_in.cu`` behind the operations' signatures.

Everything is launched on the current stream, nothing waits, nothing is allocated; all of it may be captured in a CUDA
graph. Host rows must be pinned. See :class:`hisparse_engine.ops.interface.Operations` for what each promises.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_void_p
from functools import cache

import torch

from hisparse_engine.ops.gpu.build import load
from hisparse_engine.ops.tables import HotTables, Moves, SwapPlan, TokenTables

MAX_TOP_K = 8192
"""Positions that a request may want at once: a block holds them all in registers."""

UNIT = 16
"""Bytes that a thread moves at once; a row is a multiple of it."""

_SPREAD, _AFFINE, _LINES, _RANGES = range(4)  # kinds of copy, see copy.cuh
_SHORT_ROW, _LONGEST_ROW = (
    57,
    89,
)  # units that a warp covers with 2 and 3 loads a thread, wherever the row begins
_MANY = 64  # requests


def _fields(pointers: str, others: str = "", wide: str = "") -> list[tuple[str, type]]:
    """Return a C struct's fields: pointers, then 64-bit, then 32-bit integers."""
    kinds = ((pointers, c_void_p), (wide, c_longlong), (others, c_int))
    return [(name, kind) for names, kind in kinds for name in names.split()]


class _PlanArgs(ctypes.Structure):
    _fields_ = _fields(
        "start home where position_at last_use buffer buffer_size now counts rows lengths positions slots newest "
        "copy_from copy_to num_copies",
        "k max_buffer num_layers vectors",
    )


class _CopyArgs(ctypes.Structure):
    _fields_ = [
        *_fields(
            "copy_from copy_to num_copies newest host_rows new_rows device_rows staged",
            "batch capacity units",
        ),
        ("inverse", c_longlong),
    ]


class _BackupArgs(ctypes.Structure):
    _fields_ = [*_fields("staged host_rows home", "layers batch units"), ("host_tokens", c_longlong)]


class _MoveArgs(ctypes.Structure):
    _fields_ = [
        *_fields("device_rows group_of_layer source target count", "capacity units"),
        ("device_tokens", c_longlong),
    ]


class _LocateArgs(ctypes.Structure):
    _fields_ = _fields("start home rows lengths positions device_rows new_rows slots", "k units")


class _ShrinkArgs(ctypes.Structure):
    _fields_ = _fields(
        "start where position_at last_use buffer buffer_size source target count",
        "row kept max_buffer capacity",
        "table_tokens device_tokens",
    )


@cache
def _library() -> ctypes.CDLL:
    major, minor = torch.cuda.get_device_capability()
    library = load("swap_in", f"{major}{minor}" + ("a" if major >= 9 else ""))
    library.hisparse_error.restype = ctypes.c_char_p
    return library


@cache
def _multiprocessors(device: int) -> int:
    count = c_int()
    _check(_library().hisparse_multiprocessors(device, ctypes.byref(count)))
    return count.value


def _check(code: int) -> None:
    if code:
        raise RuntimeError(f"CUDA: {_library().hisparse_error(code).decode()}")


def _stream() -> c_void_p:
    return c_void_p(torch.cuda.current_stream().cuda_stream)


def _units(rows: torch.Tensor) -> int:
    """Return how many 16-byte units a row has; its rows must lie one after another."""
    row_bytes = rows.shape[-1] * rows.element_size()
    if row_bytes % UNIT or rows.data_ptr() % UNIT or not rows.is_contiguous():
        raise ValueError(
            f"rows of {row_bytes} bytes cannot be copied: they must be contiguous, aligned multiples of {UNIT} bytes"
        )
    return row_bytes // UNIT


def plan_swap_in(
    tokens: TokenTables,
    hot: HotTables,
    group: int,
    num_layers: int,
    rows: torch.Tensor,
    lengths: torch.Tensor,
    positions: torch.Tensor,
    plan: SwapPlan,
    team: int = 0,
) -> None:
    """See :meth:`Operations.plan_swap_in`; of equally old seats any may be taken."""
    batch, k = positions.shape
    if k > MAX_TOP_K:
        raise ValueError(f"{k} positions a request are too many: at most {MAX_TOP_K}")
    at_group = group * 4
    args = _PlanArgs(
        tokens.start.data_ptr(),
        tokens.home.data_ptr(),
        hot.where.data_ptr() + at_group * hot.where.shape[1],
        hot.position_at.data_ptr() + at_group * hot.position_at.shape[1],
        hot.last_use.data_ptr() + at_group * hot.last_use.shape[1],
        hot.buffer.data_ptr(),
        hot.buffer_size.data_ptr(),
        hot.now.data_ptr(),
        hot.counts.data_ptr(),
        rows.data_ptr(),
        lengths.data_ptr(),
        positions.data_ptr(),
        plan.slots.data_ptr(),
        plan.newest.data_ptr(),
        plan.copy_from.data_ptr(),
        plan.copy_to.data_ptr(),
        plan.num_copies.data_ptr(),
        k,
        hot.buffer.shape[1],
        num_layers,
    )
    _check(_library().hisparse_plan_swap_in(ctypes.byref(args), batch, team or _team(batch), _stream()))


def _team(batch: int) -> int:
    """Return how many blocks share a request; measured on an H200, which has 132 multiprocessors."""
    return 8 if batch <= 16 else 2 if batch <= 66 else 1


def copy_rows(
    plan: SwapPlan,
    host_rows: torch.Tensor,
    device_rows: torch.Tensor,
    new_rows: torch.Tensor,
    staged: torch.Tensor | None,
    shape: tuple[int, int, int, int] | None = None,
) -> None:
    """See :meth:`Operations.copy_rows`."""
    batch = len(new_rows)
    args = _CopyArgs(
        plan.copy_from.data_ptr(),
        plan.copy_to.data_ptr(),
        plan.num_copies.data_ptr(),
        plan.newest.data_ptr(),
        host_rows.data_ptr(),
        new_rows.data_ptr(),
        device_rows.data_ptr(),
        None if staged is None else staged.data_ptr(),
        batch,
        plan.copy_from.numel(),
        _units(new_rows),
    )
    kind, in_flight, blocks, threads = shape or _copy_shape(
        len(plan.slots), args.units, device_rows.device.index
    )
    _check(_library().hisparse_copy_rows(ctypes.byref(args), kind, in_flight, blocks, threads, _stream()))


def _copy_shape(batch: int, units: int, device: int) -> tuple[int, int, int, int]:
    """Return (kind, 16-byte units in flight a thread, blocks, threads).

    Few rows are fetched by the whole GPU. Of many, what limits is how many host pages are in use at a time: fewer blocks,
    each in its own stretches of host memory.
    """
    if units > _LONGEST_ROW:
        return _AFFINE if batch >= _MANY else _SPREAD, 2, _multiprocessors(device), 256
    in_flight = 2 if units <= _SHORT_ROW else 4
    return (
        (_RANGES, in_flight, 32, 512)
        if batch >= _MANY
        else (_LINES, in_flight, _multiprocessors(device), 256)
    )


def locate(
    tokens: TokenTables,
    rows: torch.Tensor,
    lengths: torch.Tensor,
    positions: torch.Tensor,
    device_rows: torch.Tensor,
    new_rows: torch.Tensor,
    slots: torch.Tensor,
) -> None:
    """See :meth:`Operations.locate`."""
    batch, k = positions.shape
    args = _LocateArgs(
        tokens.start.data_ptr(),
        tokens.home.data_ptr(),
        rows.data_ptr(),
        lengths.data_ptr(),
        positions.data_ptr(),
        device_rows.data_ptr(),
        new_rows.data_ptr(),
        slots.data_ptr(),
        k,
        _units(new_rows),
    )
    _check(_library().hisparse_locate(ctypes.byref(args), batch, 512, _stream()))


def backup_rows(staged: torch.Tensor, host_rows: torch.Tensor, home: torch.Tensor) -> None:
    """See :meth:`Operations.backup_rows`. Eight blocks fill the link and leave the rest of the GPU alone."""
    args = _BackupArgs(
        staged.data_ptr(),
        host_rows.data_ptr(),
        home.data_ptr(),
        len(staged),
        staged.shape[1],
        _units(staged),
        host_rows.shape[1],
    )
    _check(_library().hisparse_backup_rows(ctypes.byref(args), 8, 512, _stream()))


def shrink_buffer(tokens: TokenTables, hot: HotTables, row: int, kept: int, moves: Moves) -> None:
    """See :meth:`Operations.shrink_buffer`."""
    groups, capacity = moves.source.shape
    args = _ShrinkArgs(
        tokens.start.data_ptr(),
        hot.where.data_ptr(),
        hot.position_at.data_ptr(),
        hot.last_use.data_ptr(),
        hot.buffer.data_ptr(),
        hot.buffer_size.data_ptr(),
        moves.source.data_ptr(),
        moves.target.data_ptr(),
        moves.count.data_ptr(),
        hot.where.shape[1],
        hot.position_at.shape[1],
        row,
        kept,
        hot.buffer.shape[1],
        capacity,
    )
    size = c_void_p(hot.buffer_size.data_ptr())
    _check(_library().hisparse_shrink_buffer(ctypes.byref(args), size, groups, 1024, _stream()))


def move_rows(device_rows: torch.Tensor, group_of_layer: torch.Tensor, moves: Moves) -> None:
    """See :meth:`Operations.move_rows`."""
    layers, device_tokens, _ = device_rows.shape
    args = _MoveArgs(
        device_rows.data_ptr(),
        group_of_layer.data_ptr(),
        moves.source.data_ptr(),
        moves.target.data_ptr(),
        moves.count.data_ptr(),
        moves.source.shape[1],
        _units(device_rows),
        device_tokens,
    )
    _check(_library().hisparse_move_rows(ctypes.byref(args), layers, 8, 512, _stream()))
