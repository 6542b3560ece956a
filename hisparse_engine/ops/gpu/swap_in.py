"""Swap-in on a CUDA device: the kernels of ``swap_in.cu`` behind the operations' signatures.

Everything is launched on the current stream, nothing waits, nothing is allocated; all of it may be captured in a CUDA
graph. Host rows must be pinned. See :class:`hisparse_engine.ops.interface.Operations` for what each promises.
"""

from __future__ import annotations

from ctypes import byref, c_void_p

import torch

from hisparse_engine.ops.gpu.swap_in_library import (
    BackupArgs,
    CopyArgs,
    LocateArgs,
    MoveArgs,
    PlanArgs,
    ShrinkArgs,
    check,
    library,
    multiprocessors,
    stream,
    units_of,
)
from hisparse_engine.ops.tables import HotTables, Moves, SwapPlan, TokenTables

MAX_TOP_K = 8192
"""Positions that a request may want at once: a block holds them all in registers."""

_SPREAD, _AFFINE, _LINES, _RANGES = range(4)  # kinds of copy, see copy.cuh
_SHORT_ROW, _LONGEST_ROW = 57, 89  # units that a warp covers with 2 and 3 loads, wherever the row begins
_MANY = 64  # requests


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
    args = PlanArgs(
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
    check(library().hisparse_plan_swap_in(byref(args), batch, team or _team(batch), stream()))


def _team(batch: int) -> int:
    """Return how many blocks share a request; measured on an H200, which has 132 multiprocessors."""
    return 8 if batch <= 8 else 4 if batch <= 24 else 2 if batch <= 66 else 1


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
    args = CopyArgs(
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
        units_of(new_rows),
    )
    kind, in_flight, blocks, threads = shape or _copy_shape(
        len(plan.slots), args.units, device_rows.device.index
    )
    check(library().hisparse_copy_rows(byref(args), kind, in_flight, blocks, threads, stream()))


def _copy_shape(batch: int, units: int, device: int) -> tuple[int, int, int, int]:
    """Return (kind, 16-byte units in flight a thread, blocks, threads).

    Few rows are fetched by the whole GPU. Of many, what limits is how many host pages are in use at a time: fewer blocks,
    each in its own stretches of host memory.
    """
    if units > _LONGEST_ROW:
        return _AFFINE if batch >= _MANY else _SPREAD, 2, multiprocessors(device), 256
    in_flight = 2 if units <= _SHORT_ROW else 4
    return (
        (_RANGES, in_flight, 32, 512) if batch >= _MANY else (_LINES, in_flight, multiprocessors(device), 256)
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
    args = LocateArgs(
        tokens.start.data_ptr(),
        tokens.home.data_ptr(),
        rows.data_ptr(),
        lengths.data_ptr(),
        positions.data_ptr(),
        device_rows.data_ptr(),
        new_rows.data_ptr(),
        slots.data_ptr(),
        k,
        units_of(new_rows),
    )
    check(library().hisparse_locate(byref(args), batch, 512, stream()))


def backup_rows(staged: torch.Tensor, host_rows: torch.Tensor, home: torch.Tensor) -> None:
    """See :meth:`Operations.backup_rows`. Eight blocks fill the link and leave the rest of the GPU alone."""
    args = BackupArgs(
        staged.data_ptr(),
        host_rows.data_ptr(),
        home.data_ptr(),
        len(staged),
        staged.shape[1],
        units_of(staged),
        host_rows.shape[1],
    )
    check(library().hisparse_backup_rows(byref(args), 8, 512, stream()))


def shrink_buffer(tokens: TokenTables, hot: HotTables, row: int, kept: int, moves: Moves) -> None:
    """See :meth:`Operations.shrink_buffer`."""
    groups, capacity = moves.source.shape
    args = ShrinkArgs(
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
    check(library().hisparse_shrink_buffer(byref(args), size, groups, 1024, stream()))


def move_rows(device_rows: torch.Tensor, group_of_layer: torch.Tensor, moves: Moves) -> None:
    """See :meth:`Operations.move_rows`."""
    layers, device_tokens, _ = device_rows.shape
    args = MoveArgs(
        device_rows.data_ptr(),
        group_of_layer.data_ptr(),
        moves.source.data_ptr(),
        moves.target.data_ptr(),
        moves.count.data_ptr(),
        moves.source.shape[1],
        units_of(device_rows),
        device_tokens,
    )
    check(library().hisparse_move_rows(byref(args), layers, 8, 512, stream()))
