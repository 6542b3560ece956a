"""Figures of the moment: what is down, full, missed, slow or stuck."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat

from hisparse_dashboards import expressions, palette
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import Line, alarming, falling, figure, rising
from hisparse_dashboards.queries import largest_by, smallest_by, total
from hisparse_dashboards.view import View


def engines_down(view: View) -> stat.Panel:
    """Count dead engines and targets that cannot be scraped."""
    dead = f"1 - {smallest_by(view.owner, view.recorded.recorded(v.ENGINE_UP))}"
    watched = view.exported.matching(f'job=~"{view.config.job_pattern}"')
    return figure(
        "Down",
        "Is every engine alive and every exporter reachable? 0 is good; 'no data' means that nothing is recorded or "
        f"scraped. Above 0: follow the runbook HiSparseEngineDown. Exporters are the targets of jobs {view.config.job_pattern}.",
        palette.COUNT,
        [Line(total(dead), "engines"), Line(total(f"1 - {watched.builtin('up')}"), "exporters")],
        alarming(1),
    )


def stalled(view: View) -> stat.Panel:
    """Count engines that have work and take no step."""
    return figure(
        "Stalled",
        "Does an engine have work and take no step? 0 is good. Above 0: follow the runbook HiSparseEngineStalled.",
        palette.COUNT,
        [Line(total(largest_by(view.owner, view.recorded.recorded(v.STALLED))), "engines")],
        alarming(1),
    )


def host_usage_now(view: View) -> stat.Panel:
    """Show the fullest host pool."""
    limits = view.limits
    return figure(
        "Fullest host pool",
        "How close is the fullest selected rank to queueing or retracting for lack of host memory? Above the critical "
        "level admit less or enlarge the pool (runbook HiSparseHostUsageHigh). 'no data': no host tier.",
        palette.RATIO,
        [Line(f"max({view.recorded.recorded(v.HOST_TOKEN_USAGE)})", "host")],
        rising(limits.host_usage_warning, limits.host_usage_critical),
    )


def time_to_full_now(view: View) -> stat.Panel:
    """Show when the first of the selected host pools would be full."""
    limits = view.limits
    return figure(
        "Host pool full in",
        "When is the first selected host pool full if it goes on filling as it does? Red: within the time of the alert "
        "HiSparseHostExhaustionPredicted; admit less now. 'not filling': no selected pool above "
        f"{limits.host_exhaustion_floor:.0%} fills.",
        palette.SECONDS,
        [Line(f"min({expressions.time_to_full(view)})", "full in")],
        falling(2 * limits.host_exhaustion_seconds, limits.host_exhaustion_seconds),
        null="not filling",
    )


def device_committed_now(view: View) -> stat.Panel:
    """Show the device pool with the least that a new request could have."""
    return figure(
        "Most committed device pool",
        "How much of the fullest selected device pool would hot buffers not give back? What they have grown beyond their "
        "base is spare and not counted, so a pool in full use is not yellow. Yellow: a new request may wait for device "
        "slots (runbook HiSparseDeviceUsageSaturated). 'no data': no device pool, as in vLLM.",
        palette.RATIO,
        [Line(f"max({view.recorded.recorded(v.DEVICE_COMMITTED)})", "committed")],
        rising(view.limits.device_committed_warning),
    )


def hit_ratio_now(view: View) -> stat.Panel:
    """Show the hit ratio as one figure."""
    return figure(
        "Hit ratio now",
        "What share of the top-k rows was on the device already? A low figure means traffic over the link: enlarge the "
        "device buffer or run fewer requests at once. 'no data': nothing was looked up, or no stats page is selected.",
        palette.RATIO,
        [Line(expressions.hit_ratio(view), "hits")],
        falling(view.limits.hit_ratio_warning),
    )


def generation_now(view: View) -> stat.Panel:
    """Show decode throughput as one figure."""
    return figure(
        "Generated tokens per second",
        "How fast do the selected engines decode, all together? 0 while nobody asks for anything; compare with Requests. "
        "SGLang's is what its last log line said.",
        palette.COUNT,
        [Line(expressions.level(view, v.GENERATION), "tokens/s")],
    )


def since_last_step(view: View) -> stat.Panel:
    """Show how long the longest-silent engine with running requests has not stepped."""
    limits = view.limits
    silent = v.same_rank(
        view.recorded.recorded(v.SINCE_LAST_STEP), f"{view.recorded.recorded(v.RUNNING)} > 0"
    )
    return figure(
        "Time since the last step",
        "Is an engine stuck? The longest time without a decode step among ranks that have running requests; 'idle' "
        "means that none has. Rising steadily: follow the runbook HiSparseEngineStalled. vLLM does not tell it.",
        palette.SECONDS,
        [Line(f"max({silent})", "silent for")],
        rising(limits.stalled_seconds / 2, limits.stalled_seconds),
        null="idle",
    )
