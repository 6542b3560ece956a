"""HiSparseCoordinator: full KV rows in the host pool, a small hot buffer per request on the device.

It owns the split. A row's home is its host slot, written once (staging for prompts, backup for new tokens); the
device only ever holds copies, so losing a seat never loses a row. Which rows are hot is decided per index group by
exact LRU. Source of the scheme: HiSparse in SGLang (LMSYS, April 2026); the direct residency map and the newest
token's place in the LRU order are ours.

Public: :class:`HiSparseCoordinator`, and the stats types that it reports with.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from hisparse_engine.errors import InvariantError
from hisparse_engine.kv import KVLayout, PoolSizes, Seat
from hisparse_engine.memory.audit import audit_pool
from hisparse_engine.memory.backup import Backup, record_event
from hisparse_engine.memory.prefix_tree import NO_TOKENS, Tokens
from hisparse_engine.memory.residency import ResidencyMap, Slots
from hisparse_engine.memory.swap_plan import HotBuffer, RowCopies, SwapPlan, plan_swap_in
from hisparse_engine.row_format import RowFormat
from hisparse_engine.two_tier import TwoTierPools
from hisparse_engine.verify import Sampler, compare_rows
from hisparse_metrics.stats import HiSparseTokenStats, PoolStats

__all__ = ["HiSparseCoordinator", "HiSparseTokenStats", "PoolStats"]


class _Step(NamedTuple):
    """The decode step under way: who takes part, and each newest token's device slot ``[groups, batch]``."""

    seats: tuple[Seat, ...]
    newest: torch.Tensor


class _Ready(NamedTuple):
    """A group's swap-in, planned by its first layer and replayed by the layers that share its selection."""

    plan: SwapPlan
    slots: torch.Tensor  # the plan's slots on the device


class HiSparseCoordinator(TwoTierPools):
    """The two-tier KV cache; see :class:`hisparse_engine.kv.KVCoordinator` for the life of a request."""

    def __init__(
        self,
        layout: KVLayout,
        sizes: PoolSizes,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        verify_every: int = 0,
        prefix_reuse: bool = False,
        row_format: RowFormat | None = None,
    ) -> None:
        """Allocate both pools. ``prefix_reuse`` keeps rows for requests that begin alike. ``verify_every`` > 0 checks one layer of one request against the host every N steps."""
        super().__init__(
            layout,
            sizes,
            dtype=dtype,
            device=device or torch.device("cpu"),
            prefix_reuse=prefix_reuse,
            row_format=row_format,
        )
        self.residency = ResidencyMap(layout.num_groups, sizes.device_tokens)
        self._layers_per_group = np.bincount(layout.group_of_layer)
        self._clock = 1  # 0 is the age of a slot that holds nothing
        self._step: _Step | None = None
        self._plans: dict[int, _Ready] = {}
        self._backup: Backup | None = None
        self._sampler = Sampler(verify_every)

    # ---- admission -------------------------------------------------------------------------------------------

    def admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> Seat:
        """Reserve host and index slots for ``promised`` rows, and the hot buffer that ``max_tokens`` call for."""
        seat = self._claim(max_tokens, promised, tokens)
        seat.where = self.residency.new_map(seat.host.size)
        return seat

    def extend(self, seat: Seat, num_tokens: int) -> bool:
        """Promise a seat more host and index slots; its hot buffer has its final size already."""
        if not self.ledger.extend(seat.holding, num_tokens):
            return False
        seat.where = np.concatenate([seat.where, self.residency.new_map(num_tokens)], axis=1)
        return True

    def release(self, seat: Seat, tokens: Tokens = NO_TOKENS) -> None:
        """Take every slot of a request back; its pending backup is finished first. ``tokens``' rows are kept."""
        self._finish_backup()
        if seat.staged is not None:
            seat.staged.synchronize()
        self.residency.forget(seat.device.slots)
        self._free(seat, tokens)

    def reset(self) -> None:
        """Forget every seat: all slots are free, nothing is resident; a backup under way is waited for."""
        self._finish_backup()
        self._step = None
        self._plans.clear()
        self.device_pool.reset()
        self.ledger.reset()
        self.residency.reset()

    # ---- prefill: rows stream through the device to their home -----------------------------------------------

    def write_prompt(self, layer: int, seat: Seat, rows: torch.Tensor, *, last: bool) -> torch.Tensor:
        """Send a chunk's rows home, stream the earlier ones back, and seat the prompt's tail when it is the last."""
        start = seat.length - len(rows)
        earlier = self.host_pool.read(layer, seat.host, start).to(rows.device, non_blocking=True)
        self.host_pool.write(layer, seat.host, start, rows)
        self.counters.host_to_device_bytes += start * self.host_pool.row_bytes
        self.counters.device_to_host_bytes += len(rows) * self.host_pool.row_bytes
        all_rows = torch.cat([earlier, rows]) if start else rows
        if last:
            self._seat_prompt(layer, seat, all_rows)
        return all_rows

    def is_staged(self, seat: Seat) -> bool:
        """Whether the prompt's device→host copies are done."""
        return seat.staged is None or bool(seat.staged.query())  # type: ignore[no-untyped-call]

    def _seat_prompt(self, layer: int, seat: Seat, rows: torch.Tensor) -> None:
        count = min(seat.length, seat.device.size)
        self.device_pool.use(seat.device, count)
        self.device_pool.write(layer, seat.device, 0, rows[-count:])
        if layer == self.layout.num_layers - 1:
            tail = np.arange(seat.length - count, seat.length)
            self.residency.seat_prompt(seat.where, seat.device.slots[:count], tail, self._clock)
            seat.staged = record_event(self._torch_device)

    # ---- decode ----------------------------------------------------------------------------------------------

    def begin_step(self, seats: Sequence[Seat]) -> None:
        """Finish the last step's backup, then give each newest token a home and, in every group, a seat."""
        self._finish_backup()
        self._clock += 1
        self._plans.clear()
        self.counters.step_seconds = 0.0
        newest = np.empty((self.layout.num_groups, len(seats)), dtype=np.int64)
        for i, seat in enumerate(seats):
            newest[:, i] = self._seat_newest(seat)
        self._step = _Step(tuple(seats), torch.from_numpy(newest).to(self._torch_device))

    def _seat_newest(self, seat: Seat) -> Slots:
        self._grow(seat, 1)
        buffer = seat.device
        if buffer.num_used < buffer.size:  # the buffer grows with a short sequence
            self.device_pool.use(buffer, buffer.num_used + 1)
        hot = buffer.slots[: buffer.num_used]
        slots, evicted = self.residency.seat_everywhere(seat.where, hot, seat.length - 1, self._clock)
        self.counters.evictions += int(self._layers_per_group[evicted].sum())
        return slots

    def write_newest(self, layer: int, rows: torch.Tensor) -> None:
        """Write the step's new rows into the seats that ``begin_step`` chose."""
        group = self.layout.group_of_layer[layer]
        self.device_rows(layer).index_copy_(0, self._current.newest[group], rows)

    def swap_in(self, layer: int, positions: torch.Tensor) -> torch.Tensor:
        """Copy what the layer's hot buffers lack of ``positions [batch, k]``; return device slots, same shape.

        Shared-index layers replay the plan of their group's first layer. -1 entries return a slot in range that
        must not be attended; duplicates are allowed. At most ``device_buffer_size`` distinct positions a row.
        """
        started = time.perf_counter()
        group = self.layout.group_of_layer[layer]
        if group not in self._plans:
            self._plans[group] = self._make_plan(group, positions)
        ready = self._plans[group]
        for copies in ready.plan.copies:
            self._copy_in(layer, copies)
        self._count(ready.plan)
        self.counters.step_seconds += time.perf_counter() - started
        return ready.slots

    def device_rows(self, layer: int) -> torch.Tensor:
        """Return the device pool of one layer, ``[device_tokens, row_dim]``."""
        return self.device_pool.rows[layer]

    def end_step(self) -> None:
        """Start the backup of the new rows of all layers in one copy, and verify a sample when it is due."""
        step, self._step = self._current, None
        rows = [
            self.device_rows(layer)[step.newest[group]]
            for layer, group in enumerate(self.layout.group_of_layer)
        ]
        home = np.array([seat.host.slots[seat.length - 1] for seat in step.seats], dtype=np.int64)
        self._backup = Backup.start(torch.stack(rows), home)
        if self._torch_device.type == "cpu":  # nothing to overlap with
            self._finish_backup()
        if self._sampler.is_due(self._clock) and step.seats:
            self._finish_backup()
            self._verify(step.seats)

    def _verify(self, seats: Sequence[Seat]) -> None:
        seat, layer = seats[self._sampler.pick(len(seats))], self._sampler.pick(self.layout.num_layers)
        home, slots = self.hot_rows(seat, self.layout.group_of_layer[layer])
        hot = self.device_rows(layer)[torch.from_numpy(slots).to(self._torch_device)]
        result = compare_rows(hot, self.host_pool.rows[layer][torch.from_numpy(home)])
        self.counters.verify_checks += result.checks
        self.counters.verify_mismatches += result.mismatches

    @property
    def _current(self) -> _Step:
        if self._step is None:
            raise InvariantError("a decode operation outside begin_step … end_step")
        return self._step

    def _make_plan(self, group: int, positions: torch.Tensor) -> _Ready:
        buffers = [
            HotBuffer(seat.host.slots, seat.device.slots[: seat.device.num_used], seat.where)
            for seat in self._current.seats
        ]
        plan = plan_swap_in(self.residency, group, positions.cpu().numpy(), buffers, self._clock)
        return _Ready(plan, torch.from_numpy(plan.slots).to(self._torch_device))

    def _copy_in(self, layer: int, copies: RowCopies) -> None:
        rows = self.host_pool.rows[layer].index_select(0, torch.from_numpy(copies.host_slots))
        target = torch.from_numpy(copies.device_slots).to(self._torch_device)
        self.device_rows(layer).index_copy_(0, target, rows.to(self._torch_device))
        self.counters.host_to_device_bytes += len(copies.host_slots) * self.host_pool.row_bytes

    def _count(self, plan: SwapPlan) -> None:
        self.counters.lookups += plan.lookups
        self.counters.misses += plan.misses
        self.counters.hits += plan.lookups - plan.misses
        self.counters.evictions += plan.num_evicted

    def _finish_backup(self) -> None:
        if self._backup is not None:
            self.counters.device_to_host_bytes += self._backup.finish(self.host_pool)
            self._backup = None

    # ---- what tests and the audit ask ------------------------------------------------------------------------

    def hot_rows(self, seat: Seat, group: int) -> tuple[Slots, Slots]:
        """Return (host slots, device slots) of the rows of ``seat`` that are resident in ``group``."""
        positions, slots = self._hot_positions(seat, group)
        return seat.host.slots[positions], slots

    def _hot_positions(self, seat: Seat, group: int) -> tuple[Slots, Slots]:
        slots = seat.device.slots
        positions = self.residency.position_at[group, slots].astype(np.int64)
        return positions[positions >= 0], slots[positions >= 0]

    def audit(self, seats: Sequence[Seat]) -> None:
        """Raise :class:`InvariantError` unless every slot has one owner and both directions of the maps agree."""
        shared = self.ledger.tree.all_slots()
        audit_pool("device pool", self.device_pool, [seat.device for seat in seats])
        audit_pool("host pool", self.host_pool, [seat.host for seat in seats], shared[0])
        audit_pool("index keys", self.index_keys.pool, [seat.index for seat in seats], shared[1])
        self.ledger.audit([seat.holding for seat in seats])
        for group in range(self.layout.num_groups):
            self._audit_residency(group, seats)

    def _audit_residency(self, group: int, seats: Sequence[Seat]) -> None:
        resident = 0
        for seat in seats:
            positions, slots = self._hot_positions(seat, group)
            resident += len(positions)
            if bool((positions >= seat.length).any()):
                raise InvariantError(
                    f"group {group}: a hot buffer holds a row that its request does not have"
                )
            agree = np.array_equal(seat.where[group, positions], slots)
            if not agree or int((seat.where[group] >= 0).sum()) != len(positions):
                raise InvariantError(f"group {group}: the residency map's two directions disagree")
        if resident != int((self.residency.position_at[group] >= 0).sum()):
            raise InvariantError(f"group {group}: a row is resident in a slot that nobody owns")
