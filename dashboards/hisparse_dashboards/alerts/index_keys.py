"""Alerts about index keys: they stay on the device for whole sequences, and can run out before the host pool does."""

from __future__ import annotations

from collections.abc import Iterator

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.alerts.wording import PERCENT, WHO
from hisparse_dashboards.config import Config, Thresholds
from hisparse_dashboards.rules import Alert


def alerts(config: Config) -> Iterator[Alert]:
    """Yield the alerts of this group, worst first."""
    yield index_pool_full(config.thresholds)


def index_pool_full(limits: Thresholds) -> Alert:
    """Tell that requests wait or are refused because every index key is used or promised."""
    full = v.no_room(v.INDEX_COMMITTED, limits.index_pool_full)
    return Alert(
        "HiSparseIndexPoolFull",
        "critical",
        v.unless_same_rank(
            v.same_rank(full, f"{v.WAITING} > 0 or {v.REFUSED} > 0"),
            v.no_room(v.HOST_COMMITTED, limits.host_pool_full),
        ),
        "2m",
        f"{WHO}: {PERCENT} of the index keys are used or promised, and requests wait or are refused",
        "Every token of a request needs an index key on the device, and those that are neither used nor promised do not "
        "suffice for one more request like those that run; host slots would. "
        "Likely causes: --index-tokens below --host-tokens, because the device's memory went to hot buffers. First: send "
        "new requests elsewhere or lower the generation limit, then raise --index-tokens.",
    )
