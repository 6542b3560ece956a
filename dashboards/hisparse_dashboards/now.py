"""Figures of the moment: what is down, full, missed, slow or stuck."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat

from hisparse_dashboards import expressions, palette
from hisparse_dashboards.config import Thresholds
from hisparse_dashboards.panels import Line, alarming, falling, figure, rising
from hisparse_dashboards.queries import DASHBOARD, ENGINE, largest_by, once_per_token, total, where
from hisparse_metrics import catalogue as m


def engines_down() -> stat.Panel:
    """Count dead engines and unreachable exporters."""
    up = largest_by(ENGINE, f"1 - {DASHBOARD.gauge(m.ENGINE_UP)}")
    return figure(
        "Down",
        "Is every engine alive and every exporter reachable? 0 is good; 'no data' means that nothing is scraped. "
        "Above 0: follow the runbook HiSparseEngineDown.",
        palette.COUNT,
        [Line(total(up), "engines"), Line(total(f"1 - {DASHBOARD.builtin('up')}"), "exporters")],
        alarming(1),
    )


def host_usage_now(limits: Thresholds) -> stat.Panel:
    """Show the fullest host pool."""
    return figure(
        "Fullest host pool",
        "How close is the fullest selected rank to queueing or retracting for lack of host memory? Above the critical "
        "level admit less or enlarge the pool (runbook HiSparseHostUsageHigh). 'no data': no host tier.",
        palette.RATIO,
        [Line(f"max({expressions.usage(m.HOST_TOKEN_USAGE, m.HOST_TOKEN_CAPACITY)})", "host")],
        rising(limits.host_usage_warning, limits.host_usage_critical),
    )


def device_usage_now(limits: Thresholds) -> stat.Panel:
    """Show the fullest device pool."""
    return figure(
        "Fullest device pool",
        "How full is the fullest selected device pool? Near 100 % is normal, for hot buffers use what there is; act only "
        "when the hit ratio falls as well.",
        palette.RATIO,
        [Line(f"max({expressions.usage(m.DEVICE_TOKEN_USAGE, m.DEVICE_TOKEN_CAPACITY)})", "device")],
        rising(limits.device_usage_warning),
    )


def hit_ratio_now(limits: Thresholds) -> stat.Panel:
    """Show the hit ratio as one figure."""
    return figure(
        "Hit ratio now",
        "What share of the top-k rows was on the device already? A low figure means traffic over the link: enlarge the "
        "device buffer or run fewer requests at once. 'no data': nothing was looked up.",
        palette.RATIO,
        [Line(expressions.hit_ratio(), "hits")],
        falling(limits.hit_ratio_warning),
    )


def generation_now() -> stat.Panel:
    """Show decode throughput as one figure."""
    return figure(
        "Generated tokens per second",
        "How fast do the selected engines decode, all together? 0 while nobody asks for anything; compare with Requests.",
        palette.COUNT,
        [Line(once_per_token(DASHBOARD.rate(m.GENERATION_TOKENS)), "tokens/s")],
    )


def since_last_step(limits: Thresholds) -> stat.Panel:
    """Show how long the longest-silent engine with running requests has not stepped."""
    age = f"time() - {DASHBOARD.gauge(m.ENGINE_LAST_STEP_TIMESTAMP_SECONDS)}"
    busy = f"{DASHBOARD.gauge(m.RUNNING_REQUESTS)} > 0"
    return figure(
        "Time since the last step",
        "Is an engine stuck? The longest time without a decode step among ranks that have running requests; 'no data' "
        "means that all are idle. Rising steadily: follow the runbook HiSparseEngineStalled.",
        palette.SECONDS,
        [Line(f"max({where(f'({age})', busy)})", "silent for")],
        rising(limits.stalled_seconds / 2, limits.stalled_seconds),
    )
