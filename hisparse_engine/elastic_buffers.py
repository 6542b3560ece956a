"""Elastic hot buffers: who gets the free device slots, and who gives slots back when a new request needs its share.

A request is sure of its base (``device_buffer_size`` and the newest token's slot). Slots that nobody needs go to the
requests whose sequence is longer than their buffer, up to the whole of it: then nothing misses. They are taken back,
coldest rows first, by kernels on the device's own stream: nobody waits.
"""

from __future__ import annotations

from typing import Protocol

import torch

from hisparse_engine.errors import InvariantError
from hisparse_engine.kv import KVLayout, PoolSizes
from hisparse_engine.memory.device_tables import HotBuffers, RequestTables
from hisparse_engine.memory.pool import TokenPool
from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.tables import Moves
from hisparse_engine.table_seat import TableSeat

GROWTH_SLOTS = 256
"""Buffers grow and shrink by multiples of this many slots, as far as their limits allow."""


class Pools(Protocol):
    """What of the coordinator is needed here."""

    layout: KVLayout
    sizes: PoolSizes
    device_pool: TokenPool
    ops: Operations
    requests: RequestTables
    hot: HotBuffers
    max_buffer: int

    def hot_size(self, max_tokens: int) -> int:
        """Return the device slots that a request of ``max_tokens`` rows is sure of."""


class ElasticBuffers:
    """Sizes of the hot buffers of ``seats``, which the coordinator keeps up to date."""

    def __init__(self, pools: Pools, seats: list[TableSeat]) -> None:
        """Allocate the lists of moves: they have room for one base buffer."""
        self._pools, self._seats = pools, seats
        device = pools.device_pool.rows.device
        shape = (pools.layout.num_groups, pools.sizes.device_buffer_size + 1)
        self._moves = Moves(
            source=torch.empty(shape, dtype=torch.int32, device=device),
            target=torch.empty(shape, dtype=torch.int32, device=device),
            count=torch.zeros(shape[0], dtype=torch.int32, device=device),
        )
        self._groups = torch.tensor(pools.layout.group_of_layer, dtype=torch.int32, device=device)

    @property
    def spare(self) -> int:
        """Slots that could be taken back."""
        return sum(self._spare(seat) for seat in self._seats)

    @property
    def spare_used(self) -> int:
        """Of the spare slots those in use."""
        return sum(
            max(0, seat.device.num_used - self._pools.hot_size(seat.max_tokens)) for seat in self._seats
        )

    def _spare(self, seat: TableSeat) -> int:
        return seat.device.size - self._pools.hot_size(seat.max_tokens)

    def reclaim(self, count: int) -> None:
        """Free ``count`` device slots out of the largest buffers."""
        while count > 0:
            seat = max(self._seats, key=self._spare, default=None)
            if seat is None or self._spare(seat) <= 0:
                raise InvariantError(
                    f"{count} device slots are to be taken back and no buffer has any to spare"
                )
            before = seat.device.size
            taken = -(-min(count, self._spare(seat)) // GROWTH_SLOTS) * GROWTH_SLOTS
            self._shrink(seat, max(self._pools.hot_size(seat.max_tokens), before - taken))
            count -= before - seat.device.size

    def _shrink(self, seat: TableSeat, kept: int) -> None:
        pools = self._pools
        while seat.device.size > kept:  # more than the lists hold takes several turns
            size = max(kept, seat.device.size - self._moves.source.shape[1])
            self._moves.count.zero_()
            pools.ops.shrink_buffer(pools.requests.tokens, pools.hot.tables, seat.row, size, self._moves)
            pools.ops.move_rows(pools.device_pool.rows, self._groups, self._moves)
            pools.device_pool.shrink(seat.device, size)

    def grow_all(self) -> None:
        """Give free slots to the requests that can use them, smallest buffer first, a quarter more at a time."""
        if not self._pools.device_pool.num_free:
            return
        wanting = [seat for seat in self._seats if self._useful(seat) > seat.device.size]
        for seat in sorted(wanting, key=lambda seat: seat.device.size):
            step = max(GROWTH_SLOTS, seat.device.size // 4)
            self._grow(seat, min(self._useful(seat), seat.device.size + step))

    def grow_whole(self, seat: TableSeat) -> None:
        """Give a request all that it can use and that is free, at once."""
        self._grow(seat, self._useful(seat))

    def _grow(self, seat: TableSeat, size: int) -> None:
        before = seat.device.size
        more = min(size - before, self._pools.device_pool.num_free)
        if more > 0:
            self._pools.device_pool.extend(seat.device, more)
            self._pools.hot.grow(seat.row, before, seat.device.slots[before:])

    def _useful(self, seat: TableSeat) -> int:
        """Return the slots that a request's sequence can fill now or soon."""
        rounded = -(-seat.length // GROWTH_SLOTS) * GROWTH_SLOTS
        return min(seat.max_tokens, self._pools.max_buffer, rounded)
