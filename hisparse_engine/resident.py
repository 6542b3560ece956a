"""ResidentCoordinator: every KV row on the device. The reference that the two-tier cache must equal bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisparse_engine.errors import InvariantError
from hisparse_engine.kv import KVLayout, PoolSizes, Seat, Shortfall, SwapCounters
from hisparse_engine.memory.audit import audit_pool
from hisparse_engine.memory.index_keys import IndexKeys
from hisparse_engine.memory.pool import Claim, TokenPool
from hisparse_engine.memory.prefix_tree import NO_TOKENS, Tokens
from hisparse_engine.memory.slot_ledger import SlotLedger
from hisparse_engine.row_format import ComputedRows, RowFormat
from hisparse_metrics.stats import HiSparseTokenStats, usage


class ResidentCoordinator:
    """The one-tier KV cache behind the same interface: position ``p`` of a request sits in its p-th device slot."""

    def __init__(
        self,
        layout: KVLayout,
        sizes: PoolSizes,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        prefix_reuse: bool = False,
        row_format: RowFormat | None = None,
        index_dtype: torch.dtype | None = None,
    ) -> None:
        """Allocate the device pool; ``sizes.host_tokens`` and ``device_buffer_size`` do not matter here.

        ``row_format`` and ``index_dtype`` say how KV rows and index keys are stored; default: as ``dtype``.
        """
        self.layout = layout
        self.sizes = sizes
        self.counters = SwapCounters()
        self._torch_device = device or torch.device("cpu")
        self.row_format = row_format or ComputedRows(dtype)
        self.device_pool = self._pool(
            sizes.device_tokens, layout.num_layers, layout.row_dim, self.row_format.dtype
        )
        self.index_keys = IndexKeys(
            self._pool(sizes.index_tokens, layout.num_groups, layout.index_dim, index_dtype or dtype)
        )
        self.ledger = SlotLedger((self.device_pool, self.index_keys.pool), prefix_reuse)
        self._seats: tuple[Seat, ...] | None = None

    def _pool(self, capacity: int, num_layers: int, width: int, dtype: torch.dtype) -> TokenPool:
        return TokenPool(capacity, num_layers, width, dtype=dtype, device=self._torch_device)

    def shortfall(self, max_tokens: int) -> Shortfall | None:
        """Say what a request of ``max_tokens`` rows could never get, even alone; None when it fits."""
        needs = (
            Shortfall("device pool", max_tokens, self.sizes.device_tokens, "raise --device-tokens"),
            Shortfall("index keys", max_tokens, self.sizes.index_tokens, "raise --index-tokens"),
        )
        return next((need for need in needs if need.needed > need.capacity), None)

    def can_admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> bool:
        """Whether the device can promise ``promised`` rows (default: all) a slot."""
        return self.ledger.can_admit(promised or max_tokens, tokens)

    def admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> Seat:
        """Reserve device and index slots for ``promised`` rows (default: all)."""
        holding = self.ledger.admit(promised or max_tokens, tokens)
        device, index = holding.claims
        return Seat(device, Claim(), index, holding, length=holding.length)

    def extend(self, seat: Seat, num_tokens: int) -> bool:
        """Promise a seat more device and index slots."""
        return self.ledger.extend(seat.holding, num_tokens)

    def release(self, seat: Seat, tokens: Tokens = NO_TOKENS) -> None:
        """Take every slot of a request back; keep the rows of ``tokens`` for reuse."""
        self.ledger.release(seat.holding, tokens)

    def reset(self) -> None:
        """Forget every seat."""
        self._seats = None
        self.ledger.reset()

    def share(self, seat: Seat, tokens: Tokens) -> None:
        """Let others borrow the rows of ``tokens``."""
        self.ledger.share(seat.holding, tokens)

    def catch_up(self, seat: Seat, tokens: Tokens) -> None:
        """Borrow what others have shared since."""
        seat.length = self.ledger.catch_up(seat.holding, tokens)

    def skip_prefill(self, seat: Seat) -> None:
        """Nothing to do: borrowed rows are where they are read."""

    def begin_chunk(self, seat: Seat, num_tokens: int) -> None:
        """Give a prompt chunk's tokens their slots."""
        seat.length += num_tokens
        self.device_pool.use(seat.device, seat.length)
        self.index_keys.pool.use(seat.index, seat.length)

    def write_prompt(self, layer: int, seat: Seat, rows: torch.Tensor, *, last: bool) -> torch.Tensor:
        """Write a chunk's rows and return all rows so far."""
        self.device_pool.write(layer, seat.device, seat.length - len(rows), rows)
        return self.device_pool.read(layer, seat.device, seat.length)

    def is_staged(self, seat: Seat) -> bool:
        """Nothing to stage: the device is the only tier."""
        return True

    def begin_step(self, seats: Sequence[Seat]) -> None:
        """Give each newest token its slot."""
        for seat in seats:
            self.begin_chunk(seat, 1)
        self._seats = tuple(seats)

    def write_newest(self, layer: int, rows: torch.Tensor) -> None:
        """Write the step's new rows."""
        slots = torch.tensor([seat.device.slots[seat.length - 1] for seat in self._current])
        self.device_rows(layer).index_copy_(0, slots.to(self._torch_device), rows)

    def swap_in(self, layer: int, positions: torch.Tensor) -> torch.Tensor:
        """Return where ``positions [batch, k]`` sit; nothing moves. -1 entries return a slot in range."""
        starts = [seat.device.start for seat in self._current]
        if None not in starts:
            first = torch.tensor(starts, device=positions.device)
            return positions.clamp(min=0) + first.unsqueeze(1)
        tables = [torch.from_numpy(seat.device.slots).to(positions.device) for seat in self._current]
        return torch.stack([t[p] for t, p in zip(tables, positions.clamp(min=0), strict=True)])

    def device_rows(self, layer: int) -> torch.Tensor:
        """Return the device pool of one layer, ``[device_tokens, row_dim]``."""
        return self.device_pool.rows[layer]

    def end_step(self) -> None:
        """Close the step; there is no other tier to back up to."""
        self._seats = None

    @property
    def _current(self) -> tuple[Seat, ...]:
        if self._seats is None:
            raise InvariantError("a decode operation outside begin_step … end_step")
        return self._seats

    def get_token_stats(self) -> HiSparseTokenStats:
        """Return used slots and usage of the device pool; the host tier does not exist and reads 0."""
        used, capacity = self.device_pool.num_used, self.device_pool.capacity
        return HiSparseTokenStats(used, usage(used, capacity), 0, 0.0)

    @property
    def device_tokens_spare(self) -> int:
        """No hot buffers, nothing to give back."""
        return 0

    @property
    def host_tokens_reserved(self) -> int:
        """No host tier, nothing reserved there."""
        return 0

    @property
    def host_tokens_cached(self) -> int:
        """No host tier, nothing kept there."""
        return 0

    def audit(self, seats: Sequence[Seat]) -> None:
        """Raise :class:`InvariantError` unless every slot has one owner and the counts agree."""
        shared = self.ledger.tree.all_slots()
        audit_pool("device pool", self.device_pool, [seat.device for seat in seats], shared[0])
        audit_pool("index keys", self.index_keys.pool, [seat.index for seat in seats], shared[1])
        self.ledger.audit([seat.holding for seat in seats])
