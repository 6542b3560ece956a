"""The fleet at one glance: who runs out first and when, who is fullest, who misses most."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat

from hisparse_dashboards import expressions, palette
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import Line, falling, figure, named, rising
from hisparse_dashboards.queries import smallest_by
from hisparse_dashboards.split import PER_ENGINE
from hisparse_dashboards.view import View


def full_first(view: View) -> stat.Panel:
    """Name the engine whose host pool will be full first, and say when."""
    soonest = f"bottomk(1, {smallest_by(view.engine, expressions.time_to_full(view))})"
    limits = view.limits
    return named(
        figure(
            "Full first, and in how long",
            "Which engine runs out of host tokens first if it goes on filling as it does, and in how long? Red: within "
            f"the time of the alert HiSparseHostExhaustionPredicted; admit less there now. 'none': no pool above "
            f"{limits.host_exhaustion_floor:.0%} is filling.",
            palette.SECONDS,
            [Line(soonest, PER_ENGINE)],
            falling(2 * limits.host_exhaustion_seconds, limits.host_exhaustion_seconds),
            null="none",
        )
    )


def fullest(view: View) -> stat.Panel:
    """Name the engine with the fullest host pool."""
    limits = view.limits
    return named(
        figure(
            "Fullest host pool",
            "Which engine is closest to queueing or retracting for lack of host memory? Above the critical level admit "
            "less or enlarge the pool (runbook HiSparseHostUsageHigh). vLLM counts its evictable cached blocks as free. "
            "'no data': no host tier.",
            palette.RATIO,
            [Line(f"topk(1, {expressions.largest(view, v.HOST_TOKEN_USAGE)})", PER_ENGINE)],
            rising(limits.host_usage_warning, limits.host_usage_critical),
        )
    )


def lowest_hit_ratio(view: View) -> stat.Panel:
    """Name the engine with the lowest hit ratio."""
    lowest = f"bottomk(1, {smallest_by(view.engine, view.recorded.recorded(v.HIT_RATIO))})"
    return named(
        figure(
            "Lowest hit ratio",
            "Which engine misses most of its top-k rows on the device? A low figure means traffic over the link: enlarge the "
            "device buffer there or run fewer requests at once. 'no data': nothing was looked up; SGLang's log has none.",
            palette.RATIO,
            [Line(lowest, PER_ENGINE)],
            falling(view.limits.hit_ratio_warning),
        )
    )


def generation(view: View) -> stat.Panel:
    """Show the fleet's decode throughput."""
    return figure(
        "Generated tokens per second",
        "How fast does the fleet decode, all together? 0 while nobody asks for anything; compare with Requests. SGLang's is "
        "what its last log line said.",
        palette.COUNT,
        [Line(expressions.level(view, v.GENERATION), "tokens/s")],
    )
