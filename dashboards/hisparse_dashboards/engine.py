"""HiSparse Engine: one rank or many, in every detail that an engine tells of itself.

Levels come from the recorded vocabulary, so that every kind of engine is drawn; rates of our own engine come from its
exporter, at the dashboard's resolution.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from hisparse_dashboards import (
    firing,
    fleet,
    health,
    latency,
    logged,
    marks,
    now,
    outcomes,
    split,
    swap,
    view,
    work,
)
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.config import Config
from hisparse_dashboards.layout import Page, Row, finish
from hisparse_dashboards.links import ENGINE_UID


def build(config: Config) -> dashboard.Dashboard:
    """Build the dashboard; this is its table of contents."""
    seen = view.ranks(config)
    page = Page(
        ENGINE_UID,
        "HiSparse Engine",
        "One rank or many: device and host tokens, swap-in, steps, requests, latencies, checks. Choose an engine above, or "
        "come from a row of HiSparse Overview.",
        seen,
        v.ENGINE_UP,
        [
            marks.alerts(seen),
            marks.down(seen),
            marks.starts(seen),
            marks.logged_starts(seen),
        ],
    )
    return finish(page, [
        Row("now", "Now", 4, {
            "host-now": now.host_usage_now(seen),
            "full-in": now.time_to_full_now(seen),
            "device-now": now.device_committed_now(seen),
            "hit-ratio-now": now.hit_ratio_now(seen),
            "generation-now": now.generation_now(seen),
            "last-step": now.since_last_step(seen),
        }),
        Row("health-now", "Alive and right", 4, {
            "down": now.engines_down(seen),
            "alerts-now": firing.alerts_now(seen),
            "mismatches-now": health.mismatches_now(seen),
            "violations-now": health.violations_now(seen),
            "running-since": health.running_since(seen),
            "stalled": now.stalled(seen),
        }),
        Row("tokens", "Where the tokens are", 9, {
            "device-tokens": split.device_tokens(seen),
            "host-tokens": split.host_tokens(seen),
            "index-keys": swap.index_keys(seen),
            "index-committed": fleet.index_committed(seen),
        }),
        Row("usage", "How full the pools are", 8, {
            "device-usage": split.device_usage(seen),
            "host-usage": split.host_usage(seen),
            "host-committed": fleet.committed(seen),
            "time-to-full": fleet.time_to_full(seen),
        }),
        Row("swap-in", "What the split costs", 8, {
            "hit-ratio": swap.hit_ratio(seen),
            "rows": swap.rows(seen),
            "bandwidth": swap.bandwidth(seen),
            "link": swap.link_share(seen),
        }),
        Row("step", "What a step is made of", 8, {
            "decode-step": work.decode_step(seen),
            "swap-in-seconds": split.swap_in_seconds(seen),
            "step-share": swap.step_share(seen),
            "steps": health.steps(seen),
        }),
        Row("work", "What the engine does", 8, {
            "throughput": work.throughput(seen),
            "requests": work.requests(seen),
            "prefix-hits": outcomes.prefix_hits(seen),
            "kept-rows": outcomes.kept_rows(seen),
        }),
        Row("outcomes", "What became of requests", 8, {
            "outcomes": outcomes.outcomes(seen),
            "retractions": outcomes.retractions(seen),
            "refused": outcomes.refused(seen),
        }),
        Row("latency", "What users feel", 8, {
            "first-token": work.first_token(seen),
            "inter-token": work.inter_token(seen),
            "request-duration": latency.request(seen),
        }),
        Row("distributions", "The same, as distributions", 9, {
            "first-token-map": latency.first_token_map(seen),
            "inter-token-map": latency.inter_token_map(seen),
            "step-map": latency.step_map(seen),
        }),
        Row("truth", "Whether it is right, and what runs", 8, {
            "checks": health.checks(seen),
            "identity": health.identity(seen),
        }),
        Row("sglang", "SGLang, as its log tells", 8, {
            "log-throughput": logged.throughput(seen),
            "log-failures": logged.failures(seen),
            "log-starts": logged.starts(seen),
        }),
        Row("sglang-pools", "SGLang's other pools", 8, {
            "log-pools": logged.pools(seen),
            "log-pool-tokens": logged.pool_tokens(seen),
        }),
        Row("vllm", "vLLM, as it tells", 8, {
            "device-cache": fleet.cache_usage(seen),
            "host-cache": fleet.host_cache_usage(seen),
            "backup-pending": swap.backup_pending(seen),
        }),
    ])  # fmt: skip
