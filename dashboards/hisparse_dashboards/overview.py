"""HiSparse Overview: where the tokens are, how full both pools are, what the split costs, what users feel.

It reads the exporter's own metrics, so it works before any recording rule is loaded.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders import timeseries as timeseries_builders
from grafana_foundation_sdk.models import dashboard
from hisparse_metrics import catalogue as m
from hisparse_metrics.metric import Metric

from hisparse_dashboards import palette
from hisparse_dashboards.config import Config, Thresholds
from hisparse_dashboards.layout import Row, finish
from hisparse_dashboards.panels import Line, alarming, bounded, curves, falling, figure, rising, shaded
from hisparse_dashboards.queries import (
    DASHBOARD,
    ENGINE,
    largest_by,
    once_per_token,
    ratio,
    total,
    where,
)

UID = "hisparse-overview"
PER_ENGINE = "{{instance}} {{engine_name}}"


def build(config: Config) -> dashboard.Dashboard:
    """Build the dashboard; this is its table of contents."""
    limits = config.thresholds
    return finish(
        UID,
        "HiSparse Overview",
        "Device and host tokens of HiSparse engines: where they are, how full the pools are, what the split costs.",
        [
            Row("now", "Now", 4, {
                "down": engines_down(),
                "host-now": host_usage_now(limits),
                "device-now": device_usage_now(limits),
                "hit-ratio-now": hit_ratio_now(limits),
                "generation-now": generation_now(),
                "last-step": since_last_step(limits),
            }),
            Row("tokens", "Where the tokens are", 9, {
                "device-tokens": device_tokens(),
                "host-tokens": host_tokens(),
            }),
            Row("usage", "How full the pools are", 8, {
                "device-usage": device_usage(limits),
                "host-usage": host_usage(limits),
            }),
            Row("swap-in", "What the split costs", 8, {
                "hit-ratio": hit_ratio(limits),
                "bandwidth": bandwidth(),
                "swap-in-seconds": swap_in_seconds(),
            }),
            Row("work", "What the engine does", 8, {
                "throughput": throughput(),
                "requests": requests(),
            }),
            Row("latency", "What users feel", 8, {
                "first-token": first_token(),
                "inter-token": inter_token(),
                "decode-step": decode_step(),
            }),
        ],
    )  # fmt: skip


# --- now ---


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
        [Line(f"max({_usage(m.HOST_TOKEN_USAGE, m.HOST_TOKEN_CAPACITY)})", "host")],
        rising(limits.host_usage_warning, limits.host_usage_critical),
    )


def device_usage_now(limits: Thresholds) -> stat.Panel:
    """Show the fullest device pool."""
    return figure(
        "Fullest device pool",
        "How full is the fullest selected device pool? Near 100 % is normal, for hot buffers use what there is; act only "
        "when the hit ratio falls as well.",
        palette.RATIO,
        [Line(f"max({_usage(m.DEVICE_TOKEN_USAGE, m.DEVICE_TOKEN_CAPACITY)})", "device")],
        rising(limits.device_usage_warning),
    )


def hit_ratio_now(limits: Thresholds) -> stat.Panel:
    """Show the hit ratio as one figure."""
    return figure(
        "Hit ratio now",
        "What share of the top-k rows was on the device already? A low figure means traffic over the link: enlarge the "
        "device buffer or run fewer requests at once. 'no data': nothing was looked up.",
        palette.RATIO,
        [Line(_hit_ratio(), "hits")],
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


# --- where the tokens are ---


def device_tokens() -> timeseries_builders.Panel:
    """Draw used device slots under their capacity."""
    return curves(
        "Device tokens",
        "How many tokens have a seat on the device, and how many could? Summed over data-parallel ranks and engines. "
        "Far below capacity with running requests: the batch is small, and device memory is left unused.",
        palette.TOKENS,
        [
            Line(_tokens(m.DEVICE_TOKENS), "device tokens", palette.DEVICE),
            Line(_tokens(m.DEVICE_TOKEN_CAPACITY), "capacity", palette.CAPACITY, dashed=True),
        ],
        axis="tokens",
    )


def host_tokens() -> timeseries_builders.Panel:
    """Draw used host slots, and used plus reserved, under their capacity."""
    committed = f"{DASHBOARD.gauge(m.HOST_TOKENS)} + {DASHBOARD.gauge(m.HOST_TOKENS_RESERVED)}"
    return curves(
        "Host tokens",
        "How many tokens have their home in host memory, how many more are promised to admitted requests, and how many "
        "fit? Promised at capacity: new requests wait until others end; enlarge the host pool or shorten generations.",
        palette.TOKENS,
        [
            Line(_tokens(m.HOST_TOKENS), "host tokens", palette.HOST),
            Line(once_per_token(committed), "with reserved", palette.RESERVED),
            Line(_tokens(m.HOST_TOKEN_CAPACITY), "capacity", palette.CAPACITY, dashed=True),
        ],
        axis="tokens",
    )


# --- how full the pools are ---


def device_usage(limits: Thresholds) -> timeseries_builders.Panel:
    """Draw each engine's fullest device pool."""
    panel = curves(
        "Device token usage",
        "How full is each engine's device pool (its fullest rank)? Near 100 % is normal; it limits the hot buffers, not "
        "the number of requests. A gap means that the engine is down or has no device pool.",
        palette.RATIO,
        [Line(largest_by(ENGINE, _usage(m.DEVICE_TOKEN_USAGE, m.DEVICE_TOKEN_CAPACITY)), PER_ENGINE)],
    )
    return bounded(shaded(panel, palette.DEVICE), rising(limits.device_usage_warning))


def host_usage(limits: Thresholds) -> timeseries_builders.Panel:
    """Draw each engine's fullest host pool, with the levels at which alerts fire."""
    panel = curves(
        "Host token usage",
        "How full is each engine's host pool (its fullest rank)? The dashed lines are the alert levels: above them admit "
        "less or enlarge the pool. A gap means that the engine is down or has no host tier.",
        palette.RATIO,
        [Line(largest_by(ENGINE, _usage(m.HOST_TOKEN_USAGE, m.HOST_TOKEN_CAPACITY)), PER_ENGINE)],
    )
    steps = rising(limits.host_usage_warning, limits.host_usage_critical)
    return bounded(shaded(panel, palette.HOST), steps)


# --- what the split costs ---


def hit_ratio(limits: Thresholds) -> timeseries_builders.Panel:
    """Draw the hit ratio over all selected ranks."""
    panel = curves(
        "Hit ratio",
        "What share of the top-k rows was on the device already? Every miss is a row copied over the link. Falling while "
        "the batch grows: hot buffers got too small. A gap means that nothing was looked up.",
        palette.RATIO,
        [Line(_hit_ratio(), "hits / lookups", palette.DEVICE)],
    )
    return bounded(panel, falling(limits.hit_ratio_warning))


def bandwidth() -> timeseries_builders.Panel:
    """Draw the traffic between the tiers, in the colour of the tier where it arrives."""
    return curves(
        "Swap-in and backup bandwidth",
        "How much moves between host and device, each way, over all selected ranks? Compare with the link of one device: "
        "select one rank. Near the link's limit steps wait for copies: raise the hit ratio.",
        palette.BYTES_PER_SECOND,
        [
            Line(total(DASHBOARD.rate(m.HOST_TO_DEVICE_BYTES)), "host to device (swap-in)", palette.DEVICE),
            Line(
                total(DASHBOARD.rate(m.DEVICE_TO_HOST_BYTES)),
                "device to host (backup, staging)",
                palette.HOST,
            ),
        ],
    )


def swap_in_seconds() -> timeseries_builders.Panel:
    """Draw the time that a step spends on swap-in."""
    return _quantiles(
        "Swap-in time per step",
        "How long does a step spend making its rows resident? Compare with Decode step: if it is most of a step, the hit "
        "ratio or the link is the limit. A gap means that nothing was swapped in.",
        m.SWAP_IN_SECONDS,
    )


# --- what the engine does ---


def throughput() -> timeseries_builders.Panel:
    """Draw prompt and generated tokens per second."""
    return curves(
        "Throughput",
        "How many tokens per second are generated, and how many prompt tokens are prefilled? Generation that falls while "
        "prompts rise is prefill taking turns; one that falls alone: look at Hit ratio and Decode step.",
        palette.COUNT,
        [
            Line(once_per_token(DASHBOARD.rate(m.GENERATION_TOKENS)), "generated", palette.GENERATION),
            Line(once_per_token(DASHBOARD.rate(m.PROMPT_TOKENS)), "prompt", palette.PROMPT),
        ],
        axis="tokens/s",
    )


def requests() -> timeseries_builders.Panel:
    """Draw running, staging and waiting requests."""
    return curves(
        "Requests",
        "How many requests decode, how many are being prefilled or staged, and how many wait for admission? Waiting that "
        "does not go back to 0: see Host tokens for the reason.",
        palette.COUNT,
        [
            Line(_tokens(m.RUNNING_REQUESTS), "running", palette.RUNNING),
            Line(_tokens(m.STAGING_REQUESTS), "staging", palette.STAGING),
            Line(_tokens(m.WAITING_REQUESTS), "waiting", palette.WAITING),
        ],
        axis="requests",
    )


# --- what users feel ---


def first_token() -> timeseries_builders.Panel:
    """Draw the time to first token."""
    return _quantiles(
        "Time to first token",
        "How long does a user wait before anything happens? Includes waiting for admission and prefill: rising with "
        "Waiting is lack of room, rising without it is long prompts. A gap means that no request got its first token.",
        m.TIME_TO_FIRST_TOKEN_SECONDS,
    )


def inter_token() -> timeseries_builders.Panel:
    """Draw the time between tokens."""
    return _quantiles(
        "Inter-token latency",
        "How smoothly do tokens arrive? A p99 far above p50: prefill chunks or swap-in bursts stand between tokens. A gap "
        "means that nothing was generated.",
        m.INTER_TOKEN_LATENCY_SECONDS,
    )


def decode_step() -> timeseries_builders.Panel:
    """Draw the duration of a decode step."""
    return _quantiles(
        "Decode step",
        "How long is one step of the whole batch? It grows with the batch and with misses; compare with Swap-in time per "
        "step. A gap means that no step was taken.",
        m.DECODE_STEP_SECONDS,
    )


# --- expressions that several panels share ---


def _tokens(metric: Metric) -> str:
    return once_per_token(DASHBOARD.gauge(metric))


def _usage(usage: Metric, capacity: Metric) -> str:
    """Select a usage where its pool exists: a pool of capacity 0 has none, rather than 0 %."""
    return where(DASHBOARD.gauge(usage), f"{DASHBOARD.gauge(capacity)} > 0")


def _hit_ratio() -> str:
    return ratio(total(DASHBOARD.rate(m.SWAP_IN_HITS)), total(DASHBOARD.rate(m.SWAP_IN_LOOKUPS)))


def _quantiles(title: str, description: str, metric: Metric) -> timeseries_builders.Panel:
    """Draw p50, p95 and p99 of a duration."""
    lines = [
        Line(DASHBOARD.quantile(q, metric), f"p{q * 100:.0f}", color)
        for q, color in palette.QUANTILES.items()
    ]
    return curves(title, description, palette.SECONDS, lines)
