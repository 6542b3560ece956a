"""The operations of a decode step over device tables: one signature, a plain-torch reference and a GPU implementation.

``ops.reference`` (any device, the oracle) and ``ops.gpu`` (CUDA) are modules that satisfy :class:`Operations`. No
operation allocates what outlives it, reads a device value on the host, or waits: all of them may be captured in a CUDA
graph, where shapes are fixed and everything else is read from the tables at replay.
"""

from __future__ import annotations

from typing import Protocol

import torch

from hisparse_engine.ops.tables import HotTables, IndexKeyRows, Moves, SwapPlan, TokenTables


class Operations(Protocol):
    """What the two-tier (and the resident) cache needs done to rows. ``T`` tokens; a decode batch has one a request."""

    def store_index_keys(self, index: IndexKeyRows, slots: torch.Tensor, keys: torch.Tensor) -> None:
        """Write ``keys [T, dim]`` to ``slots`` int32 ``[T]`` (NONE: nowhere), quantised where the keys are fp8."""

    def select(
        self,
        query: torch.Tensor,
        weights: torch.Tensor,
        index: IndexKeyRows,
        key_slots: torch.Tensor,
        starts: torch.Tensor,
        lengths: torch.Tensor,
        out: torch.Tensor,
        scores: torch.Tensor,
    ) -> None:
        """Write each token's exact top-k positions to ``out`` int32 ``[T, k]``: ascending, then NONE.

        Token ``t`` sees positions ``0 … lengths[t] - 1`` (int32 ``[T]``); position ``p``'s key is in slot
        ``key_slots[starts[t] + p]`` (int32, int64 ``[T]``). ``query [T, heads, dim]``, ``weights`` fp32
        ``[T, heads]``. score(p) = dim^-0.5 · Σ_h weights[h] · relu(query[h] · key[p]), in fp32. Of equal scores the
        smaller position wins; all positions are taken when there are at most ``k``. ``scores`` fp32
        ``[T, max_length]`` is scratch, as wide as any length may be.
        """

    def plan_swap_in(
        self,
        tokens: TokenTables,
        hot: HotTables,
        group: int,
        num_layers: int,
        rows: torch.Tensor,
        lengths: torch.Tensor,
        positions: torch.Tensor,
        plan: SwapPlan,
    ) -> None:
        """Make ``positions`` int32 ``[batch, k]`` and each newest position resident in ``group``'s tables.

        ``rows``, ``lengths`` int32 ``[batch]``. NONE entries are skipped, duplicates allowed. A hit is marked as used
        ``now``. The newest position, ``lengths - 1``, is seated whether or not it is selected, and never copied: its
        row is written by ``copy_rows``. Every other absent position takes the seat of the least recently used row of
        the request's buffer (empty seats first; never one used ``now``), and is listed to be copied, in ascending
        order within a request when ``positions`` ascend. A buffer has at least k + 1 slots, or one for every position.
        ``hot.counts`` grow by ``num_layers`` a row.
        """

    def copy_rows(
        self,
        plan: SwapPlan,
        host_rows: torch.Tensor,
        device_rows: torch.Tensor,
        new_rows: torch.Tensor,
        staged: torch.Tensor | None,
    ) -> None:
        """Do what ``plan`` lists in one layer, and write ``new_rows [batch, width]`` to their seats, and to ``staged``.

        ``host_rows [host_tokens, width]`` is pinned, ``device_rows [device_tokens, width]``; a row's bytes are a
        multiple of 16. ``staged [batch, width]`` keeps the new rows for their backup.
        With no new rows (``plan.newest`` and ``new_rows`` of length 0) only the copies are made.
        """

    def locate(
        self,
        tokens: TokenTables,
        rows: torch.Tensor,
        lengths: torch.Tensor,
        positions: torch.Tensor,
        device_rows: torch.Tensor,
        new_rows: torch.Tensor,
        slots: torch.Tensor,
    ) -> None:
        """Resident mode's swap-in: ``slots[b, i] = home[start[rows[b]] + positions[b, i]]``; write the new rows there."""

    def backup_rows(self, staged: torch.Tensor, host_rows: torch.Tensor, home: torch.Tensor) -> None:
        """Write ``staged [layers, batch, width]`` to slots ``home`` int32 ``[batch]`` (NONE: nowhere) of ``host_rows [layers, host_tokens, width]``."""

    def shrink_buffer(self, tokens: TokenTables, hot: HotTables, row: int, kept: int, moves: Moves) -> None:
        """Cut request ``row``'s buffer to its first ``kept`` slots, in every group, keeping its hottest rows.

        Rows in the slots given up that are among the ``kept`` most recently used move to kept slots whose rows are
        not (listed in ``moves`` for ``move_rows``); all other rows there lose their seat. Slots given up hold nothing
        afterwards (position NONE, last use 0). ``hot.buffer_size`` is updated, ``hot.counts`` is not.
        """

    def move_rows(self, device_rows: torch.Tensor, group_of_layer: torch.Tensor, moves: Moves) -> None:
        """Copy ``source`` rows to ``target`` in every layer of ``device_rows [layers, device_tokens, width]``."""

    def add_time(self, total: torch.Tensor, sign: int) -> None:
        """Add ``sign`` (1 or -1) times now, in nanoseconds of a clock that only goes forward, to ``total`` int64 ``[1]``.

        Now is when everything before it on the stream is done: the sum of pairs is the time between them.
        """

    def attend(
        self,
        query: torch.Tensor,
        rows: torch.Tensor,
        slots: torch.Tensor,
        *,
        scale: float,
        latent_dim: int,
    ) -> torch.Tensor:
        """Attend each token's ``slots`` int32 ``[T, k]`` (NONE: nothing) of ``rows [device_tokens, width]``.

        ``query [T, heads, width]``. Returns ``[T, heads, latent_dim]`` in the query's dtype: softmax(scale · query ·
        rowᵀ) · row[:latent_dim], softmax in fp32. A token with no slot gets zeros. The same slots' rows in the same
        order give the same bits, wherever they are.
        """
