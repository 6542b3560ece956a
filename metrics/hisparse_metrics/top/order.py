"""The orders that ranks can be shown in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

from hisparse_metrics.top.state import State
from hisparse_metrics.top.view import RankView

_AHEAD_SECONDS = 300.0


class Order(StrEnum):
    """What comes first."""

    FULL = "full soonest"
    STATE = "worst state"
    THROUGHPUT = "tokens/s"
    HIT_RATIO = "lowest hit ratio"
    NAME = "name"

    @property
    def next(self) -> Order:
        """The order that follows this one when the user switches."""
        orders = list(Order)
        return orders[(orders.index(self) + 1) % len(orders)]


def arranged(ranks: Iterable[RankView], order: Order) -> list[RankView]:
    """Sort; ranks that are equal in it stay in the order of their keys."""
    key = _KEYS[order]
    return sorted(ranks, key=lambda rank: (key(rank), rank.key.place))


def fullness(rank: RankView) -> float:
    """Return the host usage as it will be in five minutes if it goes on: nearest to running out is largest."""
    if rank.host_usage is None:
        return -1.0
    return rank.host_usage + (rank.host_growth or 0.0) * _AHEAD_SECONDS


_STATES = list(State)
_KEYS: dict[Order, Callable[[RankView], float]] = {
    Order.FULL: lambda rank: -fullness(rank),
    Order.STATE: lambda rank: _STATES.index(rank.state),
    Order.THROUGHPUT: lambda rank: -(rank.tokens_per_second or 0.0),
    Order.HIT_RATIO: lambda rank: 2.0 if rank.hit_ratio is None else rank.hit_ratio,
    Order.NAME: lambda rank: 0.0,
}
