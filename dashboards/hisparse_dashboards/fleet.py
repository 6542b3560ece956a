"""Engines beside each other over time, whichever kind they are: how full, how soon full, how fast, at what cost."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from hisparse_dashboards import expressions, palette
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import Line, bounded, curves, falling, rising, shaded
from hisparse_dashboards.queries import largest_by, smallest_by
from hisparse_dashboards.split import PER_ENGINE
from hisparse_dashboards.view import View


def time_to_full(view: View) -> timeseries.Panel:
    """Draw when each host pool would be full."""
    return curves(
        "Time until the host pool is full",
        "How long until each engine's host pool is full if it goes on filling as it does? Below the time of "
        "HiSparseHostExhaustionPredicted and falling: admit less there. A gap means that it does not fill. The slope is "
        f"that of the last {view.config.prediction_window}.",
        palette.SECONDS,
        [Line(smallest_by(view.engine, view.recorded.recorded(v.HOST_TIME_TO_FULL)), PER_ENGINE)],
    )


def committed(view: View) -> timeseries.Panel:
    """Draw how much of each host pool is used or promised."""
    panel = curves(
        "Host pool used and promised",
        "How much of each host pool is used, or promised to requests that are admitted already? At 100 % nothing more is "
        "admitted, however low the usage: shorten generations or enlarge the pool. Only our engine promises; for the "
        "others it is the usage.",
        palette.RATIO,
        [Line(expressions.largest(view, v.HOST_COMMITTED), PER_ENGINE)],
    )
    return bounded(shaded(panel, palette.RESERVED), rising(view.limits.host_pool_full))


def index_committed(view: View) -> timeseries.Panel:
    """Draw how much of each pool of index keys is used or promised."""
    panel = curves(
        "Index keys used and promised",
        "Do index keys run out before the host pool does? They stay on the device for whole sequences. Above the dashed "
        "line, while requests wait, HiSparseIndexPoolFull fires: raise --index-tokens, or admit less. 'no data': neither "
        "SGLang nor vLLM tells of its index keys.",
        palette.RATIO,
        [Line(expressions.largest(view, v.INDEX_COMMITTED), PER_ENGINE)],
    )
    return bounded(shaded(panel, palette.RESERVED), rising(view.limits.index_pool_full))


def cache_usage(view: View) -> timeseries.Panel:
    """Draw the device cache of vLLM, apart from the device pools of the others."""
    panel = curves(
        "Device cache usage (vLLM)",
        "How full are vLLM's device blocks? They are an evictable cache of the host pool, counted in blocks; a device pool "
        "of hot buffers is another thing, see Device token usage. Full is normal. 'no data': no vLLM here.",
        palette.RATIO,
        [Line(expressions.largest(view, v.DEVICE_CACHE_USAGE), PER_ENGINE)],
    )
    return bounded(shaded(panel, palette.CACHE))


def host_cache_usage(view: View) -> timeseries.Panel:
    """Draw vLLM's host blocks, evictable ones among them, apart from what is truly used."""
    panel = curves(
        "Host cache usage (vLLM)",
        "How full are vLLM's host blocks in the revisions that count evictable blocks as used? A warm cache is full, and that "
        "is well: nothing alerts on it. It is another thing than Host token usage; look at waiting requests and preemptions "
        "for lack of room. 'no data': no such vLLM here.",
        palette.RATIO,
        [Line(expressions.largest(view, v.HOST_CACHE_USAGE), PER_ENGINE)],
    )
    return bounded(shaded(panel, palette.CACHE))


def hit_ratio(view: View) -> timeseries.Panel:
    """Draw each engine's hit ratio."""
    panel = curves(
        "Hit ratio by engine",
        "What share of the top-k rows was on the device already, in each engine's worst rank? Falling while the batch grows: "
        f"hot buffers got too small. vLLM's is over {view.config.vllm_rate_window}, for its counters move about once a "
        "minute; SGLang's log has none. A gap means that nothing was looked up.",
        palette.RATIO,
        [Line(smallest_by(view.engine, view.recorded.recorded(v.HIT_RATIO)), PER_ENGINE)],
    )
    return bounded(panel, falling(view.limits.hit_ratio_warning))


def link_share(view: View) -> timeseries.Panel:
    """Draw how much of the link swap-in uses."""
    link = view.config.link_bytes_per_second
    share = f"{largest_by(view.engine, view.recorded.recorded(v.HOST_TO_DEVICE))} / {link:g}"
    panel = curves(
        "Link used by swap-in",
        f"How much of one device's link ({link / 1e9:g} GB/s) does swap-in use, in each engine's busiest rank? Above the "
        "dashed line with a low hit ratio steps wait for copies: enlarge the device buffer or run fewer requests. vLLM adds "
        "up its tensor-parallel ranks, so its share may exceed 100 %.",
        palette.RATIO,
        [Line(share, PER_ENGINE)],
    )
    steps = rising(view.limits.thrashing_link_share)
    return bounded(shaded(panel, palette.DEVICE), steps)


def misses(view: View) -> timeseries.Panel:
    """Draw how many rows each engine has to fetch."""
    return curves(
        "Swap-in misses by engine",
        "How many rows per second does each engine copy to the device because they were not there? Large and rising with a "
        "steady load: the selection wanders more than the hot buffers hold. SGLang's log has none.",
        palette.PER_SECOND,
        [Line(largest_by(view.engine, view.recorded.recorded(v.MISSES)), PER_ENGINE)],
        axis="rows/s",
    )


def throughput(view: View) -> timeseries.Panel:
    """Draw each engine's decode throughput."""
    return curves(
        "Generated tokens per second by engine",
        "How fast does each engine decode? One that falls behind the others under the same load: look at its hit ratio and "
        "its link, then open its Engine dashboard. SGLang's is what its last log line said.",
        palette.COUNT,
        [Line(_sum_of_owners(view, v.GENERATION), PER_ENGINE)],
        axis="tokens/s",
    )


def waiting(view: View) -> timeseries.Panel:
    """Draw each engine's queue."""
    return curves(
        "Waiting requests by engine",
        "Where do requests wait for admission? A queue beside engines without one: spread the load. A queue everywhere that "
        "does not go back to 0: see Host pool used and promised.",
        palette.COUNT,
        [Line(_sum_of_owners(view, v.WAITING), PER_ENGINE)],
        axis="requests",
    )


def pressure(view: View) -> timeseries.Panel:
    """Draw refusals and retractions."""
    return curves(
        "Refused and retracted",
        "How many requests per second got no host slots, and how many had to give theirs up? Above 0 more was admitted or "
        "sent than the pools hold: see the runbooks HiSparseHostPoolFull and HiSparseRetractionStorm. vLLM's are "
        "preemptions; it tells no refusals.",
        palette.REQUESTS_PER_SECOND,
        [
            Line(expressions.level(view, v.REFUSED), "refused", palette.CRITICAL),
            Line(expressions.level(view, v.RETRACTIONS), "retracted", palette.WARNING),
        ],
    )


def _sum_of_owners(view: View, name: str) -> str:
    return f"sum by ({', '.join(view.engine)}) ({largest_by(view.owner, view.recorded.recorded(name))})"
