"""What several panels ask: PromQL over the catalogue and the recorded vocabulary, within a dashboard's variables."""

from __future__ import annotations

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.queries import largest_by, ratio, total
from hisparse_dashboards.view import View
from hisparse_metrics import catalogue as m


def level(view: View, name: str) -> str:
    """Add up a recorded level of tokens or requests over engines and data-parallel ranks."""
    return view.once_per_token(view.recorded.recorded(name))


def capacity(view: View, name: str, used: str) -> str:
    """Add up the capacities of the pools of which it is also known how much is used."""
    return view.once_per_token(v.same_rank(view.recorded.recorded(name), view.recorded.recorded(used)))


def largest(view: View, name: str) -> str:
    """Take of each engine the rank with the largest value of a recorded series."""
    return largest_by(view.engine, view.recorded.recorded(name))


def committed_tokens(view: View) -> str:
    """Return used and promised host slots as tokens."""
    share, capacity = view.recorded.recorded(v.HOST_COMMITTED), view.recorded.recorded(v.HOST_CAPACITY)
    return view.once_per_token(f"{share} * {capacity}")


def hit_ratio(view: View) -> str:
    """Divide hits by lookups over all selected ranks; absent where nothing was looked up."""
    hits, lookups = view.exported.rate(m.SWAP_IN_HITS), view.exported.rate(m.SWAP_IN_LOOKUPS)
    return ratio(total(hits), total(lookups))


def time_to_full(view: View) -> str:
    """Select when host pools will be full, of those that are full enough to be predicted."""
    usage = f"{view.recorded.recorded(v.HOST_TOKEN_USAGE)} > {view.limits.host_exhaustion_floor:g}"
    return v.same_rank(view.recorded.recorded(v.HOST_TIME_TO_FULL), usage)
