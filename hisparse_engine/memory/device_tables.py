"""The tables that a step reads on the device: where each running request's tokens are, and which of its rows are hot.

The host decides who holds which slots (claims) and writes it here, in stream order and without waiting; from then on
the device looks it up itself. See ``ops.tables`` for the layout and the invariants.
"""

from __future__ import annotations

import numpy as np
import torch

from hisparse_engine.memory.extents import Extent, ExtentAllocator, runs_in_order
from hisparse_engine.memory.pool import Slots
from hisparse_engine.ops.tables import NONE, HotTables, TokenTables


class RequestTables:
    """Rows of the running table, stretches of the by-token tables, and what is written in them."""

    def __init__(self, rows: int, table_tokens: int, device: torch.device) -> None:
        """``rows`` requests at a time, whose positions together are at most ``table_tokens``."""
        self.tokens = TokenTables(
            start=torch.zeros(rows, dtype=torch.int64, device=device),
            index_slots=torch.zeros(table_tokens, dtype=torch.int32, device=device),
            home=torch.zeros(table_tokens, dtype=torch.int32, device=device),
        )
        self._stretches = ExtentAllocator(table_tokens)
        self._free_rows = list(range(rows - 1, -1, -1))

    def has_room(self, max_tokens: int) -> bool:
        """Whether a row and one stretch of ``max_tokens`` adjacent entries are free."""
        longest = max((extent.length for extent in self._stretches.free_extents), default=0)
        return bool(self._free_rows) and longest >= max_tokens

    def open(self, max_tokens: int) -> tuple[int, Extent]:
        """Take a row and a stretch of ``max_tokens``; ask :meth:`has_room` first."""
        (stretch,) = self._stretches.allocate(max_tokens)
        row = self._free_rows.pop()
        self.tokens.start[row : row + 1].fill_(stretch.start)
        return row, stretch

    def close(self, row: int, stretch: Extent) -> None:
        """Give a row and its stretch back."""
        self._stretches.free([stretch])
        self._free_rows.append(row)

    def write(self, stretch: Extent, start: int, home: Slots, index: Slots) -> None:
        """Say where positions ``start …`` have their KV rows and their index keys."""
        at = stretch.start + start
        _write_slots(self.tokens.home[at : at + len(home)], home)
        _write_slots(self.tokens.index_slots[at : at + len(index)], index)

    def reset(self) -> None:
        """Nobody runs."""
        rows, size = len(self.tokens.start), len(self.tokens.home)
        self._stretches = ExtentAllocator(size)
        self._free_rows = list(range(rows - 1, -1, -1))


class HotBuffers:
    """The device's side of residency for all index groups; decides nothing."""

    def __init__(
        self,
        num_groups: int,
        rows: int,
        table_tokens: int,
        device_tokens: int,
        max_buffer: int,
        device: torch.device,
    ) -> None:
        """``max_buffer`` bounds one request's hot buffer, in slots."""

        def table(*shape: int, fill: int = NONE) -> torch.Tensor:
            return torch.full(shape, fill, dtype=torch.int32, device=device)

        self.tables = HotTables(
            where=table(num_groups, table_tokens),
            position_at=table(num_groups, device_tokens),
            last_use=table(num_groups, device_tokens, fill=0),
            buffer=table(rows, max_buffer),
            buffer_size=table(rows, fill=0),
            now=torch.ones(1, dtype=torch.int32, device=device),
            counts=torch.zeros(4, dtype=torch.int64, device=device),
        )

    def open(self, row: int, stretch: Extent, slots: Slots) -> None:
        """Give a new request the empty buffer ``slots``."""
        hot = self.tables
        hot.where[:, stretch.start : stretch.stop].fill_(NONE)
        _write_slots(hot.buffer[row, : len(slots)], slots)
        hot.buffer_size[row : row + 1].fill_(len(slots))

    def grow(self, row: int, size: int, slots: Slots) -> None:
        """Add empty ``slots`` behind the ``size`` that the buffer has."""
        hot = self.tables
        _write_slots(hot.buffer[row, size : size + len(slots)], slots)
        hot.buffer_size[row : row + 1].fill_(size + len(slots))

    def seat(self, row: int, stretch: Extent, first: int, count: int, size: int) -> None:
        """Note that positions ``first … first + count - 1`` sit in the buffer's first slots, in every group.

        What sat in those slots loses its seat; ``size`` is the buffer's.
        """
        hot = self.tables
        self._empty(row, stretch, size)
        slots = hot.buffer[row, :count]
        at = stretch.start + first
        hot.where[:, at : at + count] = slots
        positions = torch.arange(first, first + count, dtype=torch.int32, device=slots.device)
        hot.position_at.index_copy_(1, slots.long(), positions.expand(len(hot.where), -1))
        hot.last_use.index_copy_(1, slots.long(), hot.now.expand(len(hot.where), count))

    def close(self, row: int, size: int) -> None:
        """Forget what a leaving request's ``size`` slots held."""
        slots = self.tables.buffer[row, :size].long()
        self.tables.position_at.index_fill_(1, slots, NONE)
        self.tables.last_use.index_fill_(1, slots, 0)
        self.tables.buffer_size[row : row + 1].zero_()

    def reset(self) -> None:
        """Nothing is resident."""
        hot = self.tables
        for table in (hot.where, hot.position_at, hot.buffer):
            table.fill_(NONE)
        hot.last_use.zero_()
        hot.buffer_size.zero_()

    def _empty(self, row: int, stretch: Extent, size: int) -> None:
        slots = self.tables.buffer[row, :size].long()
        self.tables.where[:, stretch.start : stretch.stop].fill_(NONE)
        self.tables.position_at.index_fill_(1, slots, NONE)
        self.tables.last_use.index_fill_(1, slots, 0)


def _write_slots(out: torch.Tensor, slots: Slots) -> None:
    """Write ``slots`` to int32 ``out``: a few runs are made where they are needed, many are sent over."""
    extents = runs_in_order(slots)
    if len(extents) > 8:
        values = torch.from_numpy(slots.astype(np.int32))
        if out.device.type == "cuda":
            values = values.pin_memory()
        out.copy_(values, non_blocking=True)
        return
    at = 0
    for extent in extents:
        torch.arange(extent.start, extent.stop, out=out[at : at + extent.length])
        at += extent.length
