"""Where a layer's KV rows are found, by mode: the only difference between hierarchical and resident arithmetic.

A model's pass asks ``decode`` or ``prompt`` for (rows, slots) to attend; what it takes to have the rows there is this
module's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch

from hisparse_engine.decoding.swap_timer import SwapTimer
from hisparse_engine.ops.tables import NONE, SWAP_IN_NANOSECONDS, SwapPlan
from hisparse_engine.row_format import RowFormat
from hisparse_engine.table_coordinator import TableHiSparseCoordinator
from hisparse_engine.table_resident import TableResidentCoordinator
from hisparse_engine.table_seat import TableSeat


class Batch(NamedTuple):
    """One decode step's requests, as tensors: padded entries have row NONE and length 0."""

    rows: torch.Tensor  # int32 [batch]
    lengths: torch.Tensor  # int32 [batch], the newest token included
    starts: torch.Tensor  # int64 [batch]
    index_slots: torch.Tensor  # int32 [batch]: where the newest token's index key goes
    home: torch.Tensor  # int32 [batch]: where its KV row's home is
    staged: torch.Tensor | None  # [layers, batch, row_dim]: where its KV rows wait for their backup


class Located(NamedTuple):
    """Rows to attend, as they are stored: ``rows [n, row_dim]``, and int32 ``slots [T, k]`` in them, NONE where there is none."""

    rows: torch.Tensor
    slots: torch.Tensor


class Rows(Protocol):
    """The KV rows of one mode."""

    row_format: RowFormat

    def begin(self) -> None:
        """Start a decode step (on the device)."""

    def decode(self, layer: int, batch: Batch, new: torch.Tensor, positions: torch.Tensor) -> Located:
        """Store the batch's ``new`` rows, one each, and locate ``positions`` int32 ``[batch, k]``."""

    def begin_prompt(self, seat: TableSeat, num_tokens: int, *, last: bool) -> None:
        """Start a chunk whose tokens end at ``seat.length``; ``last`` marks the final one."""

    def prompt(
        self, layer: int, seat: TableSeat, new: torch.Tensor, positions: torch.Tensor, *, last: bool
    ) -> Located:
        """Store a chunk's ``n`` ``new`` rows and locate ``positions`` int32 ``[n, k]`` of the same request."""


class ResidentRows:
    """Every row is on the device."""

    def __init__(self, coordinator: TableResidentCoordinator) -> None:
        self._coordinator, self._ops = coordinator, coordinator.ops
        self.row_format = coordinator.row_format

    def begin(self) -> None:
        """Nothing to prepare."""

    def decode(self, layer: int, batch: Batch, new: torch.Tensor, positions: torch.Tensor) -> Located:
        """Look the slots up."""
        rows, slots = self._coordinator.device_rows(layer), torch.empty_like(positions)
        tokens = self._coordinator.requests.tokens
        new = self.row_format.store(new)
        self._ops.locate(tokens, batch.rows, batch.lengths, positions, rows, new, slots)
        return Located(rows, slots)

    def begin_prompt(self, seat: TableSeat, num_tokens: int, *, last: bool) -> None:
        """Nothing to prepare."""

    def prompt(
        self, layer: int, seat: TableSeat, new: torch.Tensor, positions: torch.Tensor, *, last: bool
    ) -> Located:
        """Write the chunk's rows and look the slots up."""
        rows = self._coordinator.device_rows(layer)
        home = self._coordinator.requests.tokens.home[seat.stretch.start : seat.stretch.start + seat.length]
        rows.index_copy_(0, home[seat.length - len(new) :].long(), self.row_format.store(new))
        slots = torch.where(positions == NONE, NONE, home[positions.clamp(min=0).long()])
        return Located(rows, slots)


class TwoTierRows:
    """Rows come from their home when the hot buffer lacks them.

    The layers of an index group share one plan. Their copies start on a stream beside the computation as soon as the
    plan is made, so that a shared-index layer finds its rows there.
    """

    def __init__(self, coordinator: TableHiSparseCoordinator, max_batch: int, top_k: int) -> None:
        """``max_batch`` and ``top_k`` bound a step."""
        self._coordinator, self._ops = coordinator, coordinator.ops
        self.row_format, self._layout = coordinator.row_format, coordinator.layout
        self._layers = [
            [layer for layer, of in enumerate(self._layout.group_of_layer) if of == group]
            for group in range(self._layout.num_groups)
        ]
        self._device = coordinator.device_pool.rows.device
        total = coordinator.hot.tables.counts[SWAP_IN_NANOSECONDS:]
        self.timer = SwapTimer(self._ops, total, [len(layers) for layers in self._layers])
        entries = max_batch * top_k
        self._copies = torch.empty((2, 2, entries), dtype=torch.int32, device=self._device)
        self._num_copies = torch.zeros(self._layout.num_groups, dtype=torch.int32, device=self._device)
        self._nothing = torch.zeros(1, dtype=torch.int32, device=self._device)
        self._plan: SwapPlan | None = None
        self._beside = make_fork(self._device)
        self._fetched: torch.cuda.Event | None = None
        self._sent: list[torch.cuda.Event | None] = [None, None]
        """When the rows in each half of the scratch memory have left it."""

    # ---- decode ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Empty the lists of copies, and let time go on."""
        self._num_copies.zero_()
        self._coordinator.hot.tables.now.add_(1)

    def decode(self, layer: int, batch: Batch, new: torch.Tensor, positions: torch.Tensor) -> Located:
        """Plan with the group's first layer, copy what is missing, write the new rows."""
        group = self._layout.group_of_layer[layer]
        anchor = layer == self._layers[group][0]
        if anchor:
            self.timer.start(group)
            self._plan = self._make_plan(group, batch, positions)
            self._beside.start([self._copy_only(shared, self._plan) for shared in self._layers[group][1:]])
        plan = self._plan
        assert plan is not None, "a group's first layer plans"
        if not anchor:
            self._beside.join()
            plan = replace(plan, num_copies=self._nothing)  # they were copied beside
        staged = None if batch.staged is None else batch.staged[layer]
        self._copy(layer, plan, self.row_format.store(new), staged)
        if anchor and len(self._layers[group]) == 1:
            self.timer.stop(group)
        return Located(self._coordinator.device_pool.rows[layer], plan.slots)

    def _make_plan(self, group: int, batch: Batch, positions: torch.Tensor) -> SwapPlan:
        source, target = self._copies[group % 2]
        plan = SwapPlan(
            slots=torch.empty_like(positions),
            newest=torch.empty_like(batch.rows),
            copy_from=source,
            copy_to=target,
            num_copies=self._num_copies[group : group + 1],
        )
        self._ops.plan_swap_in(
            self._coordinator.requests.tokens,
            self._coordinator.hot.tables,
            group,
            len(self._layers[group]),
            batch.rows,
            batch.lengths,
            positions,
            plan,
        )
        return plan

    def _copy_only(self, layer: int, plan: SwapPlan) -> Callable[[], None]:
        nothing_new = replace(plan, newest=plan.newest[:0])
        no_rows = self._coordinator.device_pool.rows[layer][:0]
        group = self._layout.group_of_layer[layer]

        def copy() -> None:
            self._copy(layer, nothing_new, no_rows, None)
            if layer == self._layers[group][-1]:
                self.timer.stop(group)

        return copy

    def _copy(self, layer: int, plan: SwapPlan, new: torch.Tensor, staged: torch.Tensor | None) -> None:
        pools = self._coordinator
        self._ops.copy_rows(plan, pools.host_pool.rows[layer], pools.device_pool.rows[layer], new, staged)

    # ---- prefill ---------------------------------------------------------------------------------------------

    def begin_prompt(self, seat: TableSeat, num_tokens: int, *, last: bool) -> None:
        """Begin to stream the first layer's earlier rows."""
        if last:
            self._coordinator.make_room_for_prompt(seat)
        self._fetched = self._coordinator.fetch_earlier(0, seat, seat.length - num_tokens)

    def prompt(
        self, layer: int, seat: TableSeat, new: torch.Tensor, positions: torch.Tensor, *, last: bool
    ) -> Located:
        """Gather the prompt's rows in scratch memory, send the chunk's home, and stream the next layer's meanwhile."""
        pools, start = self._coordinator, seat.length - len(new)
        rows = pools.scratch[layer % 2]
        pools.link.wait_for(self._fetched)
        pools.link.wait_for(self._sent[layer % 2])
        rows[start : seat.length].copy_(self.row_format.store(new))
        staged = self._sent[layer % 2] = pools.send_home(layer, seat, start, rows[start : seat.length])
        self._fetched = pools.fetch_earlier(layer + 1, seat, start)
        if last:
            count = min(seat.length, seat.device.size)
            slots = pools.hot.tables.buffer[seat.row, :count].long()
            pools.device_pool.rows[layer].index_copy_(0, slots, rows[seat.length - count : seat.length])
            if layer == self._layout.num_layers - 1:
                pools.seat_prompt(seat, staged)
        return Located(rows, positions)


class Fork(Protocol):
    """Work beside the computation, that later steps of it wait for one by one."""

    def start(self, work: list[Callable[[], None]]) -> None:
        """Begin ``work``, in order, once the computation so far is done."""

    def join(self) -> None:
        """Make the computation wait for the next piece of it."""


class SameStream:
    """No stream beside: a piece of work is done when it is waited for."""

    def __init__(self) -> None:
        self._work: list[Callable[[], None]] = []

    def start(self, work: list[Callable[[], None]]) -> None:
        """Keep it for later."""
        self._work = list(work)

    def join(self) -> None:
        """Do it."""
        self._work.pop(0)()


class SideStream:
    """A CUDA stream; inside a graph's capture it becomes a branch of the graph."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._events: list[torch.cuda.Event] = []

    def start(self, work: list[Callable[[], None]]) -> None:
        """Run it on the stream, an event behind each piece."""
        if not work:
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for piece in work:
                piece()
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record(self._stream)
                self._events.append(event)

    def join(self) -> None:
        """Wait for the oldest event."""
        torch.cuda.current_stream().wait_event(self._events.pop(0))


def make_fork(device: torch.device) -> Fork:
    """Return what fits ``device``."""
    return SideStream(device) if device.type == "cuda" else SameStream()
