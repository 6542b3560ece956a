"""HiSparse Overview: where the tokens are, how full both pools are, what the split costs, what users feel.

It reads the exporter's own metrics, so it works before any recording rule is loaded.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from hisparse_dashboards import now, split, work
from hisparse_dashboards.config import Config
from hisparse_dashboards.layout import Row, finish

UID = "hisparse-overview"


def build(config: Config) -> dashboard.Dashboard:
    """Build the dashboard; this is its table of contents."""
    limits = config.thresholds
    return finish(
        UID,
        "HiSparse Overview",
        "Device and host tokens of HiSparse engines: where they are, how full the pools are, what the split costs.",
        [
            Row("now", "Now", 4, {
                "down": now.engines_down(),
                "host-now": now.host_usage_now(limits),
                "device-now": now.device_usage_now(limits),
                "hit-ratio-now": now.hit_ratio_now(limits),
                "generation-now": now.generation_now(),
                "last-step": now.since_last_step(limits),
            }),
            Row("tokens", "Where the tokens are", 9, {
                "device-tokens": split.device_tokens(),
                "host-tokens": split.host_tokens(),
            }),
            Row("usage", "How full the pools are", 8, {
                "device-usage": split.device_usage(limits),
                "host-usage": split.host_usage(limits),
            }),
            Row("swap-in", "What the split costs", 8, {
                "hit-ratio": split.hit_ratio(limits),
                "bandwidth": split.bandwidth(),
                "swap-in-seconds": split.swap_in_seconds(),
            }),
            Row("work", "What the engine does", 8, {
                "throughput": work.throughput(),
                "requests": work.requests(),
            }),
            Row("latency", "What users feel", 8, {
                "first-token": work.first_token(),
                "inter-token": work.inter_token(),
                "decode-step": work.decode_step(),
            }),
        ],
    )  # fmt: skip
