"""The tensors that the two-tier cache's operations share. Plain data: who owns what, and the invariants, in one place.

A running request has a *row* ``r`` (0 … rows - 1) and a stretch of the by-token tables: its position ``p`` is at
``start[r] + p`` there. A batch names its requests by row; a padded batch entry has row :data:`NONE` and length 0.
All tensors are on one device; every index but ``start`` is int32, which holds any slot and halves what a lookup reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

NONE = -1
"""Nothing: no position lives in this slot, this position is not resident, this batch entry is padding."""

LOOKUPS, MISSES, EVICTIONS, SWAP_IN_NANOSECONDS = range(4)
"""Places in ``HotTables.counts``."""


@dataclass(frozen=True)
class TokenTables:
    """Where each request's tokens are kept for the whole life of the sequence."""

    start: torch.Tensor
    """int64 ``[rows]``: where a request's stretch begins."""
    index_slots: torch.Tensor
    """int32 ``[table_tokens]``: slot of each position's index key."""
    home: torch.Tensor
    """int32 ``[table_tokens]``: slot of each position's KV row in its home: the host pool, or the device in resident mode."""


@dataclass(frozen=True)
class HotTables:
    """Which KV rows are in which device slot, for every index group, and when each slot was last used.

    ``where[g, start[r] + p] == s`` exactly when ``position_at[g, s] == p`` and ``s`` is one of row ``r``'s
    ``buffer[r, :buffer_size[r]]``. A slot is in one request's buffer only. ``last_use`` is 0 for a slot that holds nothing.
    """

    where: torch.Tensor
    """int32 ``[groups, table_tokens]``: device slot of each position, or NONE."""
    position_at: torch.Tensor
    """int32 ``[groups, device_tokens]``: the position that lives in each slot, or NONE."""
    last_use: torch.Tensor
    """int32 ``[groups, device_tokens]``: the step in which a slot was last used."""
    buffer: torch.Tensor
    """int32 ``[rows, max_buffer]``: the device slots of each request's hot buffer."""
    buffer_size: torch.Tensor
    """int32 ``[rows]``: how many of them there are."""
    now: torch.Tensor
    """int32 ``[1]``: the step's number, from 1."""
    counts: torch.Tensor
    """int64 ``[4]``: rows looked up, missed, and evicted since the start, one row being one token in one layer; and the
    nanoseconds that timed swap-ins took. Planning needs the first three."""


@dataclass(frozen=True)
class SwapPlan:
    """What one group's swap-in comes to; written by ``plan_swap_in``, replayed by every layer of the group."""

    slots: torch.Tensor
    """int32 ``[batch, k]``: the device slot of each wanted position; NONE where none is wanted."""
    newest: torch.Tensor
    """int32 ``[batch]``: the device slot that the newest token's row is to be written to; NONE for padding."""
    copy_from: torch.Tensor
    """int32 ``[batch * k]``: host slots of the rows to bring in; only the first ``num_copies`` count."""
    copy_to: torch.Tensor
    """int32 ``[batch * k]``: their device slots."""
    num_copies: torch.Tensor
    """int32 ``[1]``; whoever plans adds to it, so it is zero before a plan is made."""


@dataclass(frozen=True)
class Moves:
    """Rows that move within the device pool when a hot buffer shrinks, a list for each group."""

    source: torch.Tensor
    """int32 ``[groups, capacity]``: device slots that are given up."""
    target: torch.Tensor
    """int32 ``[groups, capacity]``: device slots that are kept, and whose colder rows are overwritten."""
    count: torch.Tensor
    """int32 ``[groups]``: entries of each list."""


@dataclass(frozen=True)
class IndexKeyRows:
    """Index keys of one group: bf16 or fp32, or fp8 with one scale a key."""

    keys: torch.Tensor
    """``[slots, dim]``: float32, bfloat16 or float8_e4m3fn."""
    scales: torch.Tensor | None = None
    """float32 ``[slots]`` for fp8: key = ``keys * scales``."""
