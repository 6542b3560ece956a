"""What the engine and the models know of the KV cache: one interface, whichever tier a row is in.

``HiSparseCoordinator`` (two tiers) and ``ResidentCoordinator`` (all on the device: the reference) implement it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch

from hisparse_engine.layout import KVLayout as KVLayout
from hisparse_engine.layout import PoolSizes as PoolSizes
from hisparse_engine.memory.index_keys import IndexKeys
from hisparse_engine.memory.pool import Claim
from hisparse_engine.memory.prefix_tree import NO_TOKENS, Tokens
from hisparse_engine.memory.residency import Where
from hisparse_engine.memory.slot_ledger import Holding
from hisparse_engine.row_format import RowFormat
from hisparse_metrics.stats import HiSparseTokenStats


@dataclass(eq=False)
class Seat:
    """An admitted request's place in the pools; ``length`` KV rows exist or are being written in this step."""

    device: Claim
    host: Claim
    index: Claim
    holding: Holding = field(default_factory=lambda: Holding(()))
    """The two claims whose rows live as long as the sequence: its home and its index keys."""
    where: Where = field(default_factory=lambda: np.empty((0, 0), dtype=np.int32))
    """Which position is hot in which device slot, ``[groups, promised]``."""
    length: int = 0
    staged: torch.cuda.Event | None = None

    @property
    def promised(self) -> int:
        """How many rows the seat may hold before it has to be extended."""
        return self.index.size


@dataclass
class SwapCounters:
    """Cumulative counts of KV rows and bytes (a row is one token in one layer), and this step's swap-in time."""

    lookups: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    host_to_device_bytes: int = 0
    device_to_host_bytes: int = 0
    verify_checks: int = 0
    verify_mismatches: int = 0
    step_seconds: float = field(default=0.0, repr=False)


class Shortfall(NamedTuple):
    """A resource that a request needs more of than there is."""

    resource: str
    needed: int
    capacity: int
    remedy: str


class KVCoordinator(Protocol):
    """Who holds which slots: what scheduler and engine ask. A request's life: admit → chunks → steps → release."""

    counters: SwapCounters
    index_keys: IndexKeys
    row_format: RowFormat
    """How rows are kept: those that are written and read here are stored ones."""

    def shortfall(self, max_tokens: int) -> Shortfall | None:
        """Say what a request of ``max_tokens`` rows could never get, even alone; None when it fits."""

    def can_admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> bool:
        """Whether ``promised`` of the ``max_tokens`` rows (default: all) that a request may need can be reserved.

        A known prefix of ``tokens`` is borrowed and needs no slots.
        """

    def admit(self, max_tokens: int, promised: int | None = None, tokens: Tokens = NO_TOKENS) -> Seat:
        """Reserve slots for ``promised`` rows (default: all) of a request that may grow to ``max_tokens``.

        The seat's ``length`` is that of the prefix of ``tokens`` whose rows exist already and are borrowed.
        """

    def extend(self, seat: Seat, num_tokens: int) -> bool:
        """Promise a seat ``num_tokens`` more rows; False, and nothing changes, when they are not free."""

    def share(self, seat: Seat, tokens: Tokens) -> None:
        """Let others borrow the rows of ``tokens``, which are all that ``seat`` has; they are not written again."""

    def catch_up(self, seat: Seat, tokens: Tokens) -> None:
        """Borrow what others have shared since of ``tokens``, for a seat in prefill; ``seat.length`` grows by it."""

    def skip_prefill(self, seat: Seat) -> None:
        """Make a seat whose rows are all borrowed ready to decode."""

    def is_staged(self, seat: Seat) -> bool:
        """Whether the prompt's rows have reached their home, so that the request may decode."""

    def release(self, seat: Seat, tokens: Tokens = NO_TOKENS) -> None:
        """Take every slot of a request back, at whatever stage it is; keep the rows of ``tokens`` for reuse."""

    def reset(self) -> None:
        """Forget every seat and all that they hold; for accounts that do not add up any more."""

    def get_token_stats(self) -> HiSparseTokenStats:
        """Return used slots and usage of both tiers."""

    @property
    def device_tokens_spare(self) -> int:
        """Used device slots that hot buffers would give back to a new request."""

    @property
    def host_tokens_cached(self) -> int:
        """Host slots whose rows are kept for reuse; they count as available."""

    @property
    def host_tokens_reserved(self) -> int:
        """Host slots promised to admitted requests for rows that do not exist yet: used + reserved ≤ capacity."""

    def audit(self, seats: Sequence[Seat]) -> None:
        """Raise :class:`InvariantError` when the account does not add up for the seats held."""


class EagerKVCoordinator(KVCoordinator, Protocol):
    """A KV cache that is told every operation: what the reference passes ask.

    A chunk: begin_chunk → write_prompt per layer. A decode step: begin_step → per layer write_newest, swap_in, attend
    over ``device_rows`` → end_step.
    """

    def begin_chunk(self, seat: Seat, num_tokens: int) -> None:
        """Give a prompt chunk's tokens their slots; ``seat.length`` grows by ``num_tokens``."""

    def write_prompt(self, layer: int, seat: Seat, rows: torch.Tensor, *, last: bool) -> torch.Tensor:
        """Store a prompt chunk's ``rows [tokens, row_dim]``, which end at ``seat.length``.

        Returns all rows so far on the device, ``[seat.length, row_dim]``; ``last`` marks the final chunk.
        """

    def begin_step(self, seats: Sequence[Seat]) -> None:
        """Give each request's newest token its slots; ``seat.length`` grows by one."""

    def write_newest(self, layer: int, rows: torch.Tensor) -> None:
        """Write the step's new rows ``[batch, row_dim]`` of one layer."""

    def swap_in(self, layer: int, positions: torch.Tensor) -> torch.Tensor:
        """Make ``positions [batch, k]`` (padded with -1) resident; return their device slots, int64, same shape."""

    def device_rows(self, layer: int) -> torch.Tensor:
        """Return the device pool of one layer, ``[device_tokens, row_dim]``."""

    def end_step(self) -> None:
        """Start the backup of the step's new rows."""
