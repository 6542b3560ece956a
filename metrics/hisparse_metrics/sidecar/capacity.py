"""How large a pool is, told from a log that prints used slots and a usage rounded to two decimals.

A usage of 0.29 means 0.285 to 0.295, so every record allows an interval of capacities. The truth is in all of them:
the intersection is kept, and its middle is the answer once it is off by 1 % at most. One record is enough for that
from a usage of 0.5 on. An empty intersection means that the pool has changed: it starts anew from that record.
A figure of a start-up line is taken instead where it agrees with the records, because nothing in that line says which
pool it is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_ERROR = 0.01 + 1e-6
_HALF_STEP = 0.005
_SLACK = 1e-9


@dataclass(slots=True)
class CapacityEstimate:
    """The capacities that the records so far allow; ``stated`` is the start-up figure that they agree with."""

    low: float = 0.0
    high: float = math.inf
    stated: float | None = None

    @property
    def value(self) -> float | None:
        """The capacity in tokens, or ``None`` while it is not known to 1 %."""
        if self.stated is not None:
            return self.stated
        middle = (self.low + self.high) / 2
        if self.low <= 0 or math.isinf(middle) or self.high - middle > _MAX_ERROR * middle:
            return None
        return float(round(middle))

    def observe(self, tokens: float, usage: float, stated: Iterable[float] = ()) -> None:
        """Narrow by one record's used tokens and rounded usage; ``stated`` are the start-up figures so far."""
        low, high = bounds(tokens, usage)
        if low > self.high or high < self.low:
            self.low, self.high = low, high
        else:
            self.low, self.high = max(low, self.low), min(high, self.high)
        self.stated = next(filter(self._agrees, stated), None)

    def _agrees(self, stated: float) -> bool:
        """Tell whether the figure is one that the records allow, and they allow few enough others to say so."""
        return self.low <= stated <= self.high <= 1.1 * self.low


def bounds(tokens: float, usage: float) -> tuple[float, float]:
    """Return the smallest and the largest capacity for which ``tokens`` used slots print as ``usage``."""
    low = tokens / (usage + _HALF_STEP) if tokens > 0 else 0.0
    high = tokens / (usage - _HALF_STEP) if tokens > 0 and usage > _HALF_STEP else math.inf
    return low * (1 - _SLACK), high * (1 + _SLACK)
