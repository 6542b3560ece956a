"""TableResidentCoordinator: resident mode over device tables, the reference that the two-tier graphs must equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisparse_engine.kv import KVLayout, PoolSizes, Seat
from hisparse_engine.memory.device_tables import RequestTables
from hisparse_engine.memory.prefix_tree import NO_TOKENS, Tokens
from hisparse_engine.memory_plan import STRETCHES_PER_TOKEN
from hisparse_engine.ops.interface import Operations
from hisparse_engine.resident import ResidentCoordinator
from hisparse_engine.row_format import RowFormat
from hisparse_engine.table_seat import TableSeat, open_seat, write_slots


class TableResidentCoordinator(ResidentCoordinator):
    """The one-tier KV cache; its pass is :class:`hisparse_engine.decoding.table_pass.ResidentRows`."""

    def __init__(
        self,
        layout: KVLayout,
        sizes: PoolSizes,
        ops: Operations,
        *,
        max_running: int,
        max_length: int,
        dtype: torch.dtype,
        device: torch.device,
        prefix_reuse: bool = False,
        row_format: RowFormat | None = None,
        index_dtype: torch.dtype | None = None,
    ) -> None:
        """Allocate the pools and tables. No request is longer than ``max_length`` tokens."""
        super().__init__(
            layout,
            sizes,
            dtype=dtype,
            device=device,
            prefix_reuse=prefix_reuse,
            row_format=row_format,
            index_dtype=index_dtype,
        )
        self.ops = ops
        self.max_length = min(max_length, sizes.device_tokens, sizes.index_tokens)
        table_tokens = min(STRETCHES_PER_TOKEN * sizes.index_tokens, max_running * self.max_length)
        self.requests = RequestTables(max_running, table_tokens, device)

    def can_admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> bool:
        """Whether slots and a place in the tables can be had."""
        return self.requests.has_room(max_tokens) and super().can_admit(max_tokens, promised, tokens)

    def admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> TableSeat:
        """Reserve device and index slots, and a place in the tables."""
        return open_seat(super().admit(max_tokens, promised, tokens), max_tokens, self.requests)

    def extend(self, seat: Seat, num_tokens: int) -> bool:
        """Promise a seat more device and index slots."""
        before = seat.promised
        if not super().extend(seat, num_tokens):
            return False
        assert isinstance(seat, TableSeat)
        write_slots(seat, before, self.requests)
        return True

    def catch_up(self, seat: Seat, tokens: Tokens) -> None:
        """Borrow what others have shared since."""
        before = seat.length
        super().catch_up(seat, tokens)
        if seat.length > before:
            assert isinstance(seat, TableSeat)
            write_slots(seat, before, self.requests)

    def release(self, seat: Seat, tokens: Tokens = NO_TOKENS) -> None:
        """Take every slot of a request back; keep the rows of ``tokens`` for reuse."""
        assert isinstance(seat, TableSeat)
        self.requests.close(seat.row, seat.stretch)
        super().release(seat, tokens)

    def reset(self) -> None:
        """Forget every seat."""
        super().reset()
        self.requests.reset()

    def begin_step(self, seats: Sequence[Seat]) -> None:
        """Give each newest token its slot."""
        for seat in seats:
            self.begin_chunk(seat, 1)
