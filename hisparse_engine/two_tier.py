"""The account of the two tiers: which pools there are, and what an admitted request holds of each. Moves no row.

What moves rows builds on it: ``coordinator`` (the reference: residency in NumPy, any device) and ``table_coordinator``
(residency in device tables, for CUDA graphs).
"""

from __future__ import annotations

import torch

from hisparse_engine.kv import KVLayout, PoolSizes, Seat, Shortfall, SwapCounters
from hisparse_engine.memory.index_keys import IndexKeys
from hisparse_engine.memory.pool import TokenPool
from hisparse_engine.memory.prefix_tree import NO_TOKENS, Tokens
from hisparse_engine.memory.slot_ledger import SlotLedger
from hisparse_engine.row_format import ComputedRows, RowFormat
from hisparse_metrics.stats import HiSparseTokenStats, usage


class TwoTierPools:
    """Host pool, device pool and index keys, and the claims on them."""

    def __init__(
        self,
        layout: KVLayout,
        sizes: PoolSizes,
        *,
        dtype: torch.dtype,
        device: torch.device,
        prefix_reuse: bool,
        row_format: RowFormat | None = None,
        index_dtype: torch.dtype | None = None,
    ) -> None:
        """Allocate the pools; the host pool is pinned when the device is a CUDA device.

        ``row_format`` and ``index_dtype`` say how KV rows and index keys are stored; default: as ``dtype``.
        """
        self.layout = layout
        self.sizes = sizes
        self.counters = SwapCounters()
        self.row_format = row_format or ComputedRows(dtype)
        self._torch_device = device
        rows = self.row_format.dtype
        self.device_pool = self._pool(sizes.device_tokens, layout.num_layers, layout.row_dim, rows)
        self.host_pool = TokenPool(
            sizes.host_tokens,
            layout.num_layers,
            layout.row_dim,
            dtype=rows,
            device=torch.device("cpu"),
            pinned=device.type == "cuda",
        )
        self.index_keys = IndexKeys(
            self._pool(sizes.index_tokens, layout.num_groups, layout.index_dim, index_dtype or dtype)
        )
        self.ledger = SlotLedger((self.host_pool, self.index_keys.pool), prefix_reuse)

    def _pool(self, capacity: int, num_layers: int, width: int, dtype: torch.dtype) -> TokenPool:
        return TokenPool(capacity, num_layers, width, dtype=dtype, device=self._torch_device)

    # ---- admission -------------------------------------------------------------------------------------------

    def shortfall(self, max_tokens: int) -> Shortfall | None:
        """Say what a request of ``max_tokens`` rows could never get, even alone; None when it fits."""
        needs = (
            Shortfall("host pool", max_tokens, self.sizes.host_tokens, "raise --host-tokens"),
            Shortfall(
                "device pool",
                self.hot_size(max_tokens),
                self.sizes.device_tokens,
                "raise --device-tokens, lower --device-buffer-size",
            ),
            Shortfall("index keys", max_tokens, self.sizes.index_tokens, "raise --index-tokens"),
        )
        return next((need for need in needs if need.needed > need.capacity), None)

    def can_admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> bool:
        """Whether ``promised`` rows' host and index slots (default: all) and a whole hot buffer can be had."""
        return self.device_pool.num_unreserved >= self.hot_size(max_tokens) and self.ledger.can_admit(
            promised or max_tokens, tokens
        )

    def _claim(self, max_tokens: int, promised: int | None, tokens: Tokens) -> Seat:
        holding = self.ledger.admit(promised or max_tokens, tokens)
        host, index = holding.claims
        return Seat(
            device=self.device_pool.reserve(self.hot_size(max_tokens)),
            host=host,
            index=index,
            holding=holding,
            length=holding.length,
        )

    def _free(self, seat: Seat, tokens: Tokens) -> None:
        self.device_pool.release(seat.device)
        self.ledger.release(seat.holding, tokens)

    def hot_size(self, max_tokens: int) -> int:
        """Return the device slots that a request of ``max_tokens`` rows is sure of."""
        return min(max_tokens, self.sizes.device_buffer_size + 1)  # + 1: the newest token's slot

    def share(self, seat: Seat, tokens: Tokens) -> None:
        """Let others borrow the rows of ``tokens`` from their home."""
        self.ledger.share(seat.holding, tokens)

    def catch_up(self, seat: Seat, tokens: Tokens) -> None:
        """Borrow what others have shared since."""
        seat.length = self.ledger.catch_up(seat.holding, tokens)

    def skip_prefill(self, seat: Seat) -> None:
        """Open the hot buffer, empty: the first steps fill it."""
        self.device_pool.use(seat.device, min(seat.length, seat.device.size))

    def begin_chunk(self, seat: Seat, num_tokens: int) -> None:
        """Give a prompt chunk's tokens their home."""
        self._grow(seat, num_tokens)

    def _grow(self, seat: Seat, num_tokens: int) -> None:
        seat.length += num_tokens
        self.host_pool.use(seat.host, seat.length)
        self.index_keys.pool.use(seat.index, seat.length)

    # ---- what observers ask ----------------------------------------------------------------------------------

    def get_token_stats(self) -> HiSparseTokenStats:
        """Return used slots (capacity − available) and usage of both tiers; usage is 0.0 where the capacity is 0."""
        device, host = self.device_pool, self.host_pool
        return HiSparseTokenStats(
            device_tokens=device.capacity - device.num_available,
            device_token_usage=usage(device.num_used, device.capacity),
            host_tokens=host.capacity - host.num_available,
            host_token_usage=usage(host.num_used, host.capacity),
        )

    @property
    def device_tokens_spare(self) -> int:
        """Used device slots beyond what requests are sure of: none, where hot buffers have a fixed size."""
        return 0

    @property
    def host_tokens_reserved(self) -> int:
        """Host slots promised to admitted requests for rows that do not exist yet: used + reserved ≤ capacity."""
        return self.host_pool.num_reserved - self.host_pool.num_used

    @property
    def host_tokens_cached(self) -> int:
        """Host slots whose rows are kept for reuse; they count as available."""
        return self.host_pool.num_cached
