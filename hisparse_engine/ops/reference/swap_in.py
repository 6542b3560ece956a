"""Swap-in in plain torch: exact LRU over direct maps, one request after another. The oracle of the GPU kernels.

Runs on any device, and reads device values on the host; see :class:`hisparse_engine.ops.interface.Operations` for what
each operation promises.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from hisparse_engine.errors import InvariantError
from hisparse_engine.ops.tables import (
    EVICTIONS,
    LOOKUPS,
    MISSES,
    NONE,
    HotTables,
    Moves,
    SwapPlan,
    TokenTables,
)


class _Request(NamedTuple):
    """One request's part of one group's tables; the tensors are views."""

    home: torch.Tensor  # [length]
    where: torch.Tensor  # [length]
    buffer: torch.Tensor  # int64 [size]
    position_at: torch.Tensor  # [device_tokens]
    last_use: torch.Tensor  # [device_tokens]
    now: int


def plan_swap_in(
    tokens: TokenTables,
    hot: HotTables,
    group: int,
    num_layers: int,
    rows: torch.Tensor,
    lengths: torch.Tensor,
    positions: torch.Tensor,
    plan: SwapPlan,
) -> None:
    """See :meth:`Operations.plan_swap_in`. Of equally old seats the one earlier in the buffer goes first."""
    plan.slots.fill_(NONE)
    plan.newest.fill_(NONE)
    for i, (row, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
        if row == NONE or length == 0:
            continue
        request = _view(tokens, hot, group, row, length)
        wanted = positions[i][positions[i] != NONE].long()
        absent = _touch(request, wanted)
        evictions = _seat(request, absent, length - 1)
        _list_copies(plan, request.home[absent], request.where[absent])
        plan.slots[i, positions[i] != NONE] = request.where[wanted]
        plan.newest[i] = request.where[length - 1]
        hot.counts[LOOKUPS] += num_layers * len(wanted)
        hot.counts[MISSES] += num_layers * len(absent)
        hot.counts[EVICTIONS] += num_layers * evictions


def _view(tokens: TokenTables, hot: HotTables, group: int, row: int, length: int) -> _Request:
    start = int(tokens.start[row])
    return _Request(
        home=tokens.home[start : start + length],
        where=hot.where[group, start : start + length],
        buffer=hot.buffer[row, : int(hot.buffer_size[row])].long(),
        position_at=hot.position_at[group],
        last_use=hot.last_use[group],
        now=int(hot.now[0]),
    )


def _touch(request: _Request, wanted: torch.Tensor) -> torch.Tensor:
    """Mark what is resident as used now, the newest too; return what else is not, each once, in order of appearance."""
    newest = len(request.where) - 1
    seats = request.where[wanted].long()
    request.last_use[seats[seats != NONE]] = request.now
    if int(request.where[newest]) != NONE:
        request.last_use[int(request.where[newest])] = request.now
    absent = dict.fromkeys(wanted[(seats == NONE) & (wanted != newest)].tolist())
    return torch.tensor(list(absent), dtype=torch.int64, device=wanted.device)


def _seat(request: _Request, absent: torch.Tensor, newest: int) -> int:
    """Seat ``absent``, and the newest position where it is absent too; return how many rows lost their seat."""
    if int(request.where[newest]) == NONE:
        absent = torch.cat([absent, absent.new_tensor([newest])])
    if len(absent) == 0:
        return 0
    ages = request.last_use[request.buffer]
    oldest = torch.argsort(ages, stable=True)[: len(absent)]
    if len(oldest) < len(absent) or int(ages[oldest].max()) >= request.now:
        raise InvariantError(
            f"{len(absent)} rows to seat do not fit the cold seats of a buffer of {len(ages)}"
        )
    victims = request.buffer[oldest]
    gone = request.position_at[victims].long()
    gone = gone[gone != NONE]
    request.where[gone] = NONE
    request.where[absent] = victims.int()
    request.position_at[victims] = absent.int()
    request.last_use[victims] = request.now
    return len(gone)


def _list_copies(plan: SwapPlan, source: torch.Tensor, target: torch.Tensor) -> None:
    first = int(plan.num_copies[0])
    plan.copy_from[first : first + len(source)] = source
    plan.copy_to[first : first + len(target)] = target
    plan.num_copies.add_(len(source))


def copy_rows(
    plan: SwapPlan,
    host_rows: torch.Tensor,
    device_rows: torch.Tensor,
    new_rows: torch.Tensor,
    staged: torch.Tensor | None,
) -> None:
    """See :meth:`Operations.copy_rows`."""
    count = int(plan.num_copies[0])
    source, target = plan.copy_from[:count].long(), plan.copy_to[:count].long()
    rows = _bytes(host_rows).index_select(0, source.to(host_rows.device))
    _bytes(device_rows)[target] = rows.to(device_rows.device)
    _write(device_rows, plan.newest, new_rows)
    if staged is not None:
        staged.copy_(new_rows)


def locate(
    tokens: TokenTables,
    rows: torch.Tensor,
    lengths: torch.Tensor,
    positions: torch.Tensor,
    device_rows: torch.Tensor,
    new_rows: torch.Tensor,
    slots: torch.Tensor,
) -> None:
    """See :meth:`Operations.locate`. NONE entries, and all of a padded one, come back as NONE."""
    real = (rows != NONE) & (lengths > 0)
    start = tokens.start[torch.where(real, rows, 0).long()].unsqueeze(1)
    wanted = (positions != NONE) & real.unsqueeze(1)
    slots.copy_(torch.where(wanted, tokens.home[torch.where(wanted, start + positions, 0)], NONE))
    newest = torch.where(real, start.squeeze(1) + lengths - 1, 0)
    _write(device_rows, torch.where(real, tokens.home[newest], NONE), new_rows)


def backup_rows(staged: torch.Tensor, host_rows: torch.Tensor, home: torch.Tensor) -> None:
    """See :meth:`Operations.backup_rows`."""
    for layer in range(len(staged)):
        _write(host_rows[layer], home.to(host_rows.device), staged[layer].to(host_rows.device))


def shrink_buffer(tokens: TokenTables, hot: HotTables, row: int, kept: int, moves: Moves) -> None:
    """See :meth:`Operations.shrink_buffer`. Of equally hot rows those that need not move are kept first."""
    size = int(hot.buffer_size[row])
    kept = min(kept, size)
    start = int(tokens.start[row])
    buffer = hot.buffer[row, :size].long()
    for group in range(len(hot.where)):
        position_at, last_use = hot.position_at[group], hot.last_use[group]
        hottest = torch.argsort(last_use[buffer], descending=True, stable=True)[:kept]
        hottest = hottest[position_at[buffer[hottest]] != NONE]
        is_hot = torch.zeros(size, dtype=torch.bool, device=buffer.device)
        is_hot[hottest] = True
        source = buffer[kept:][is_hot[kept:]]
        target = buffer[:kept][~is_hot[:kept]][: len(source)]
        cold = torch.cat([target, buffer[kept:][~is_hot[kept:]]])
        gone = position_at[cold].long()
        where = hot.where[group, start:]
        where[gone[gone != NONE]] = NONE
        where[position_at[source].long()] = target.int()
        position_at[target], last_use[target] = position_at[source], last_use[source]
        position_at[buffer[kept:]], last_use[buffer[kept:]] = NONE, 0
        moves.source[group, : len(source)], moves.target[group, : len(source)] = source.int(), target.int()
        moves.count[group] = len(source)
    hot.buffer_size[row] = kept


def move_rows(device_rows: torch.Tensor, group_of_layer: torch.Tensor, moves: Moves) -> None:
    """See :meth:`Operations.move_rows`."""
    for layer, group in enumerate(group_of_layer.tolist()):
        count = int(moves.count[group])
        rows = _bytes(device_rows[layer])
        rows[moves.target[group, :count].long()] = rows[moves.source[group, :count].long()]


def _write(rows: torch.Tensor, slots: torch.Tensor, new_rows: torch.Tensor) -> None:
    real = slots != NONE
    _bytes(rows)[slots[real].long()] = _bytes(new_rows)[real]


def _bytes(rows: torch.Tensor) -> torch.Tensor:
    """Return the same rows as bytes: torch indexes these whatever the rows' dtype."""
    return rows.view(torch.uint8)
