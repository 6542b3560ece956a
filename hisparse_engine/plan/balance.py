"""Budgets → pools that hold as many requests of one length as possible.

How many there are decides everything else: each needs a whole hot buffer on the device, an index key for each of its
tokens there, and a host slot for each of its tokens. What is left over goes to hot buffers, until every sequence could
be hot as a whole, and then to further tokens, whose rows are kept for reuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hisparse_engine.layout import PoolSizes
from hisparse_engine.memory_plan import MemoryPlan, host_tokens_in
from hisparse_engine.plan.assemble import Blueprint

MAX_TOKENS = 2**31 - 1
"""Slots are 32 bits wide."""
MAX_REQUESTS = 1 << 20


class Budget(NamedTuple):
    """Bytes of the device's memory in all, and of main memory for the host pool."""

    device: int
    host: int


@dataclass(frozen=True)
class Balance:
    """Looks for the best plan within a budget. ``most`` bounds requests whatever memory says; None: nothing does."""

    blueprint: Blueprint
    budget: Budget
    buffer: int
    """``device_buffer_size``: a hot buffer without the newest token's slot."""
    most: int | None = None

    def best(self, context: int, *, resident: bool) -> MemoryPlan | None:
        """Return the plan with the most requests of ``context`` tokens; None when not even one fits."""
        count = self.requests(context, resident=resident)
        if count == 0:
            return None
        least = self.smallest(count, context, resident=resident)
        if resident:
            tokens = _largest(
                least.device_tokens,
                MAX_TOKENS,
                lambda n: self._fits(self._all_resident(n), count, resident=True),
            )
            return self.blueprint.plan(self._all_resident(tokens), count, resident=True)
        return self._use_up(least, count, context)

    def requests(self, context: int, *, resident: bool) -> int:
        """Return how many requests of ``context`` tokens fit."""
        return _largest(
            0,
            min(self.most or MAX_REQUESTS, MAX_TOKENS // context),
            lambda n: (
                n == 0 or self._fits(self.smallest(n, context, resident=resident), n, resident=resident)
            ),
        )

    def smallest(self, count: int, context: int, *, resident: bool) -> PoolSizes:
        """Return the smallest pools that hold ``count`` requests of ``context`` tokens."""
        if resident:
            return self._all_resident(count * context)
        hot = max(count * min(context, self.buffer + 1), self.buffer + 1)
        return PoolSizes(hot, count * context, count * context, self.buffer)

    def needed(self, count: int, context: int, *, resident: bool) -> Budget:
        """Return the least budget for ``count`` requests of ``context`` tokens."""
        plan = self.blueprint.plan(self.smallest(count, context, resident=resident), count, resident=resident)
        return Budget(plan.all_device_bytes, plan.host_bytes)

    def bound(self, count: int, context: int, *, resident: bool) -> str:
        """Say what one more request than ``count`` would lack: device memory, host memory, or a running request's place."""
        if count == self.most:
            return "max_running_requests"
        more = self.needed(count + 1, context, resident=resident)
        if more.device > self.budget.device:
            return "device memory"
        return "host memory" if more.host > self.budget.host else "32-bit slots"

    def _use_up(self, least: PoolSizes, count: int, context: int) -> MemoryPlan:
        """Make hot buffers larger, then the host pool."""

        def sizes(device: int, held: int) -> PoolSizes:
            return PoolSizes(device, held, held, self.buffer)

        def fits(device: int, held: int) -> bool:
            return self._fits(sizes(device, held), count, resident=False)

        held = least.index_tokens
        device = _largest(
            least.device_tokens, max(least.device_tokens, count * context), lambda n: fits(n, held)
        )
        host = min(host_tokens_in(self.budget.host, self.blueprint.token(resident=False)), MAX_TOKENS)
        held = _largest(held, host, lambda n: fits(device, n))
        return self.blueprint.plan(sizes(device, held), count, resident=False)

    def _all_resident(self, tokens: int) -> PoolSizes:
        return PoolSizes(tokens, 0, tokens, self.buffer)

    def _fits(self, sizes: PoolSizes, count: int, *, resident: bool) -> bool:
        plan = self.blueprint.plan(sizes, count, resident=resident)
        return plan.all_device_bytes <= self.budget.device and plan.host_bytes <= self.budget.host


def _largest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the largest of ``low … high`` for which ``holds``; it holds for ``low``, and from some point on no more."""
    step = 1
    while low + step <= high and holds(low + step):
        low, step = low + step, 2 * step
    high = min(high, low + step - 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
