"""TableHiSparseCoordinator: the two-tier cache whose residency lives in device tables, fit for CUDA graphs.

The host keeps the account (who holds which slots, how large each hot buffer is) and never learns which rows are hot;
the device looks up, evicts and copies by itself, in stream order. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hisparse_engine.elastic_buffers import ElasticBuffers
from hisparse_engine.errors import InvariantError
from hisparse_engine.kv import KVLayout, PoolSizes, Seat
from hisparse_engine.memory.audit import audit_pool
from hisparse_engine.memory.device_tables import HotBuffers, RequestTables
from hisparse_engine.memory.extents import runs_in_order
from hisparse_engine.memory.host_link import make_link
from hisparse_engine.memory.prefix_tree import NO_TOKENS, Tokens
from hisparse_engine.memory_plan import STRETCHES_PER_TOKEN
from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.tables import EVICTIONS, LOOKUPS, MISSES, NONE
from hisparse_engine.row_format import RowFormat
from hisparse_engine.table_seat import TableSeat, open_seat, write_slots
from hisparse_engine.two_tier import TwoTierPools
from hisparse_engine.verify import Sampler, compare_rows


class TableHiSparseCoordinator(TwoTierPools):
    """The two-tier KV cache over device tables; its pass is :class:`hisparse_engine.decoding.table_pass.TwoTierRows`."""

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
        verify_every: int = 0,
        prefix_reuse: bool = False,
        row_format: RowFormat | None = None,
        index_dtype: torch.dtype | None = None,
    ) -> None:
        """Allocate pools and tables. No request is longer than ``max_length`` tokens."""
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
        self.max_length = min(max_length, sizes.host_tokens, sizes.index_tokens)
        table_tokens = min(STRETCHES_PER_TOKEN * sizes.index_tokens, max_running * self.max_length)
        self.requests = RequestTables(max_running, table_tokens, device)
        self.max_buffer = min(self.max_length, sizes.device_tokens)
        self.hot = HotBuffers(
            layout.num_groups, max_running, table_tokens, sizes.device_tokens, self.max_buffer, device
        )
        self.link = make_link(device)
        shape = (2, self.max_length, layout.row_dim)
        self.scratch = torch.empty(shape, dtype=self.row_format.dtype, device=device)
        """Rows of a prompt in two layers, while its chunks are computed."""
        self._seats: list[TableSeat] = []
        self._elastic = ElasticBuffers(self, self._seats)
        self._sampler = Sampler(verify_every)
        self._num_steps = 0

    # ---- admission -------------------------------------------------------------------------------------------

    def can_admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> bool:
        """Whether slots of every kind can be had, those that elastic buffers would give back included."""
        return (
            self.device_pool.num_unreserved + self._elastic.spare >= self.hot_size(max_tokens)
            and self.requests.has_room(max_tokens)
            and self.ledger.can_admit(promised or max_tokens, tokens)
        )

    def admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> TableSeat:
        """Reserve host and index slots for ``promised`` rows, a hot buffer, and a place in the tables."""
        self._elastic.reclaim(self.hot_size(max_tokens) - self.device_pool.num_unreserved)
        seat = open_seat(self._claim(max_tokens, promised, tokens), max_tokens, self.requests)
        self.hot.open(seat.row, seat.stretch, seat.device.slots)
        self._seats.append(seat)
        self.link.wait_for_sent()  # borrowed rows may still be on their way home
        return seat

    def extend(self, seat: Seat, num_tokens: int) -> bool:
        """Promise a seat more host and index slots."""
        seat, before = _table(seat), seat.promised
        if not self.ledger.extend(seat.holding, num_tokens):
            return False
        write_slots(seat, before, self.requests)
        return True

    def catch_up(self, seat: Seat, tokens: Tokens) -> None:
        """Borrow what others have shared since."""
        before = seat.length
        super().catch_up(seat, tokens)
        if seat.length > before:
            write_slots(_table(seat), before, self.requests)
            self.link.wait_for_sent()

    def release(self, seat: Seat, tokens: Tokens = NO_TOKENS) -> None:
        """Take every slot of a request back; ``tokens``' rows are kept. What is under way there comes first anyway."""
        seat = _table(seat)
        self._seats.remove(seat)
        self.hot.close(seat.row, seat.device.size)
        self.requests.close(seat.row, seat.stretch)
        self._free(seat, tokens)

    def reset(self) -> None:
        """Forget every seat: all slots are free, nothing is resident."""
        self.link.synchronize()
        self._seats.clear()
        self.device_pool.reset()
        self.ledger.reset()
        self.requests.reset()
        self.hot.reset()

    # ---- prefill ---------------------------------------------------------------------------------------------

    def begin_chunk(self, seat: Seat, num_tokens: int) -> None:
        """Give a prompt chunk's tokens their home, and begin to stream the first layer's earlier rows."""
        super().begin_chunk(seat, num_tokens)
        self.counters.host_to_device_bytes += (
            (seat.length - num_tokens) * self.host_pool.row_bytes * self.layout.num_layers
        )
        self.counters.device_to_host_bytes += num_tokens * self.host_pool.row_bytes * self.layout.num_layers

    def fetch_earlier(self, layer: int, seat: Seat, count: int) -> torch.cuda.Event | None:
        """Begin to copy the first ``count`` rows of ``seat`` in one layer to ``scratch[layer % 2]``."""
        if count == 0 or layer >= self.layout.num_layers:
            return None
        target, source = self.scratch[layer % 2], self.host_pool.rows[layer]
        runs = runs_in_order(seat.host.slots[:count])

        def copy() -> None:
            at = 0
            for run in runs:
                target[at : at + run.length].copy_(source[run.start : run.stop], non_blocking=True)
                at += run.length

        return self.link.fetch(copy)

    def send_home(self, layer: int, seat: Seat, start: int, rows: torch.Tensor) -> torch.cuda.Event | None:
        """Begin to copy ``rows [n, row_dim]`` of positions ``start …`` to their home in one layer."""
        target = self.host_pool.rows[layer]
        runs = runs_in_order(seat.host.slots[start : start + len(rows)])

        def copy() -> None:
            at = 0
            for run in runs:
                target[run.start : run.stop].copy_(rows[at : at + run.length], non_blocking=True)
                at += run.length

        return self.link.send(copy)

    def make_room_for_prompt(self, seat: Seat) -> None:
        """Let the buffer grow before the prompt's tail is seated: with room for all of it nothing will ever miss."""
        self._elastic.grow_whole(_table(seat))

    def seat_prompt(self, seat: Seat, staged: torch.cuda.Event | None) -> int:
        """Seat as much of a prompt's tail as the buffer takes; return how many rows that is."""
        seat = _table(seat)
        count = min(seat.length, seat.device.size)
        self.device_pool.use(seat.device, count)
        self.hot.seat(seat.row, seat.stretch, seat.length - count, count, seat.device.size)
        seat.staged = staged
        return count

    def is_staged(self, seat: Seat) -> bool:
        """Whether the prompt's rows may be read at home: the device waits for them by itself, so always."""
        return True

    # ---- decode ----------------------------------------------------------------------------------------------

    def begin_step(self, seats: Sequence[Seat]) -> None:
        """Give each newest token its home; let buffers grow into free slots."""
        for seat in seats:
            self._grow(seat, 1)
            self.link.wait_for(seat.staged)  # the step may read what the prompt sent home
            seat.staged = None
        self._elastic.grow_all()
        for seat in seats:
            used = min(seat.length, seat.device.size)
            if used > seat.device.num_used:
                self.device_pool.use(seat.device, used)

    def end_step(
        self, seats: Sequence[Seat], staged: torch.Tensor, home: torch.Tensor
    ) -> torch.cuda.Event | None:
        """Begin the backup of ``staged [layers, batch, row_dim]`` to host slots ``home`` int32 ``[batch]``; verify when due."""
        self._num_steps += 1
        self.counters.device_to_host_bytes += self.layout.num_layers * len(seats) * self.host_pool.row_bytes
        done = self.link.send(lambda: self.ops.backup_rows(staged, self.host_pool.rows, home))
        if self._sampler.is_due(self._num_steps):
            self._verify(_table(seats[self._sampler.pick(len(seats))]))
        return done

    def note_counts(self, counts: Sequence[int]) -> None:
        """Take over what the device has counted since the start."""
        missed = counts[MISSES] - self.counters.misses
        self.counters.lookups, self.counters.misses = counts[LOOKUPS], counts[MISSES]
        self.counters.hits = counts[LOOKUPS] - counts[MISSES]
        self.counters.evictions = counts[EVICTIONS]
        self.counters.host_to_device_bytes += missed * self.host_pool.row_bytes

    def _verify(self, seat: TableSeat) -> None:
        """Compare hot rows of one layer with their host rows; waits for the device, which is why it is sampled."""
        self.link.synchronize()
        layer = self._sampler.pick(self.layout.num_layers)
        positions, slots = self.hot_rows(seat, self.layout.group_of_layer[layer])
        home = torch.from_numpy(seat.host.slots[positions.numpy()])
        hot = self.device_pool.rows[layer].index_select(0, slots.to(self._torch_device))
        result = compare_rows(hot, self.host_pool.rows[layer].index_select(0, home))
        self.counters.verify_checks += result.checks
        self.counters.verify_mismatches += result.mismatches

    @property
    def device_tokens_spare(self) -> int:
        """Used device slots that elastic buffers would give back to a new request."""
        return self._elastic.spare_used

    # ---- what tests and the audit ask ------------------------------------------------------------------------

    def hot_rows(self, seat: Seat, group: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (positions, device slots), int64 on the host, of the rows of ``seat`` resident in ``group``."""
        seat = _table(seat)
        slots = self.hot.tables.buffer[seat.row, : seat.device.size].long()
        positions = self.hot.tables.position_at[group][slots].cpu().long()
        return positions[positions != NONE], slots.cpu()[positions != NONE]

    def audit(self, seats: Sequence[Seat]) -> None:
        """Raise :class:`InvariantError` unless every slot has one owner; with nobody seated, unless nothing is hot."""
        shared = self.ledger.tree.all_slots()
        audit_pool("device pool", self.device_pool, [seat.device for seat in seats])
        audit_pool("host pool", self.host_pool, [seat.host for seat in seats], shared[0])
        audit_pool("index keys", self.index_keys.pool, [seat.index for seat in seats], shared[1])
        self.ledger.audit([seat.holding for seat in seats])
        if not seats and bool((self.hot.tables.position_at != NONE).any()):
            raise InvariantError("a row is resident in a slot that nobody owns")

    def audit_residency(self, seats: Sequence[Seat]) -> None:
        """Raise :class:`InvariantError` unless both directions of every map agree; reads the tables, for tests."""
        hot = self.hot.tables
        for group in range(self.layout.num_groups):
            resident = 0
            for seat in map(_table, seats):
                positions, slots = self.hot_rows(seat, group)
                where = hot.where[group, seat.stretch.start : seat.stretch.stop].cpu().long()
                agree = bool((where[positions] == slots).all()) and int((where != NONE).sum()) == len(slots)
                if not agree or bool((positions >= seat.length).any()):
                    raise InvariantError(f"group {group}: the residency map's two directions disagree")
                if not np.array_equal(
                    hot.buffer[seat.row, : seat.device.size].cpu().numpy(), seat.device.slots
                ):
                    raise InvariantError("a hot buffer's slots differ from its claim")
                resident += len(slots)
            if resident != int((hot.position_at[group] != NONE).sum()):
                raise InvariantError(f"group {group}: a row is resident in a slot that nobody owns")


def _table(seat: Seat) -> TableSeat:
    assert isinstance(seat, TableSeat), "a seat of another coordinator"
    return seat
