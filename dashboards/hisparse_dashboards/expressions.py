"""What several panels ask: PromQL over catalogue entries, within a dashboard's variables."""

from __future__ import annotations

from hisparse_dashboards.queries import DASHBOARD, existing, once_per_token, ratio, total
from hisparse_metrics import catalogue as m
from hisparse_metrics.metric import Metric


def tokens(metric: Metric) -> str:
    """Add up a level of tokens or requests over engines and data-parallel ranks."""
    return once_per_token(DASHBOARD.gauge(metric))


def usage(usage: Metric, capacity: Metric) -> str:
    """Select a usage where its pool exists."""
    return existing(DASHBOARD, usage, capacity)


def hit_ratio() -> str:
    """Divide hits by lookups over all selected ranks; absent where nothing was looked up."""
    return ratio(total(DASHBOARD.rate(m.SWAP_IN_HITS)), total(DASHBOARD.rate(m.SWAP_IN_LOOKUPS)))
