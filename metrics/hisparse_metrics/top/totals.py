"""All ranks together. Tensor-, pipeline- and expert-parallel ranks of one engine share tokens and requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from hisparse_metrics.top.state import State
from hisparse_metrics.top.view import RankView, Totals

_Figure = Callable[[RankView], float | None]


def total(ranks: Sequence[RankView]) -> Totals:
    """Add up; what no rank tells is not known."""
    device, device_capacity = _once(ranks, _device_tokens), _once(ranks, _device_capacity)
    host, host_capacity = _once(ranks, _host_tokens), _once(ranks, _host_capacity)
    states = Counter(rank.state for rank in ranks)
    first = min((r for r in ranks if r.seconds_to_full is not None), key=_soonest, default=None)
    return Totals(
        states=tuple((state, states[state]) for state in State if states[state]),
        running=_once(ranks, lambda rank: rank.running),
        staging=_once(ranks, lambda rank: rank.staging),
        waiting=_once(ranks, lambda rank: rank.waiting),
        device_tokens=device,
        device_capacity=device_capacity,
        device_usage=_usage(device, device_capacity, (r.device_usage for r in ranks)),
        device_spare=_once(ranks, lambda rank: rank.device_spare),
        host_tokens=host,
        host_capacity=host_capacity,
        host_usage=_usage(host, host_capacity, (r.host_usage for r in ranks)),
        host_reserved=_once(ranks, lambda rank: rank.host_reserved),
        tokens_per_second=_once(ranks, lambda rank: rank.tokens_per_second),
        hit_ratio=_hit_ratio(ranks),
        host_to_device=_sum(rank.host_to_device for rank in ranks),
        device_to_host=_sum(rank.device_to_host for rank in ranks),
        retractions=_once(ranks, lambda rank: rank.retractions),
        seconds_to_full=first.seconds_to_full if first else None,
        first_full=first.name if first and len(ranks) > 1 else "",
    )


def _once(ranks: Iterable[RankView], figure: _Figure) -> float | None:
    """Sum over owners of tokens; of an owner's ranks the largest counts."""
    largest: dict[tuple[str, ...], float] = {}
    for rank in ranks:
        value = figure(rank)
        if value is not None:
            owner = rank.key.token_owner
            largest[owner] = max(value, largest.get(owner, 0.0))
    return sum(largest.values()) if largest else None


def _usage(used: float | None, capacity: float | None, stated: Iterable[float | None]) -> float | None:
    """Return used over capacity; where an engine tells usages only, the fullest."""
    if used is not None and capacity:
        return used / capacity
    return max((usage for usage in stated if usage is not None), default=None)


def _hit_ratio(ranks: Iterable[RankView]) -> float | None:
    pairs = [(r.hit_ratio, r.lookups_per_second) for r in ranks]
    known = [(ratio, lookups) for ratio, lookups in pairs if ratio is not None and lookups]
    lookups = sum(weight for _, weight in known)
    return sum(ratio * weight for ratio, weight in known) / lookups if lookups else None


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _soonest(rank: RankView) -> float:
    assert rank.seconds_to_full is not None
    return rank.seconds_to_full


def _device_tokens(rank: RankView) -> float | None:
    return rank.device_tokens


def _device_capacity(rank: RankView) -> float | None:
    return rank.device_capacity


def _host_tokens(rank: RankView) -> float | None:
    return rank.host_tokens


def _host_capacity(rank: RankView) -> float | None:
    return rank.host_capacity
