"""HiSparse Fleet overview: which engine runs out of host tokens first, and when; then how every engine is.

It reads the recorded vocabulary alone, so our engine, SGLang behind a sidecar and vLLM stand beside each other.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from hisparse_dashboards import firing, fleet, fleet_now, instances, marks, now, split, view
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.config import Config
from hisparse_dashboards.layout import Page, Row, finish
from hisparse_dashboards.links import OVERVIEW_UID


def build(config: Config) -> dashboard.Dashboard:
    """Build the dashboard; this is its table of contents."""
    seen = view.fleet(config)
    page = Page(
        OVERVIEW_UID,
        "HiSparse Overview",
        "All engines with a two-tier KV cache: which one runs out of host tokens first, how full each is, what the split "
        "costs, what fires.",
        seen,
        v.ENGINE_UP,
        [marks.alerts(seen), marks.down(seen)],
    )
    return finish(page, [
        Row("now", "Now", 4, {
            "full-first": fleet_now.full_first(seen),
            "host-now": fleet_now.fullest(seen),
            "alerts-now": firing.alerts_now(seen),
            "down": now.engines_down(seen),
            "hit-ratio-now": fleet_now.lowest_hit_ratio(seen),
            "generation-now": fleet_now.generation(seen),
        }),
        Row("instances", "Engines", 9, {"instances": instances.instances(seen)}),
        Row("alerts", "Alerts", 6, {"alerts": firing.alerts_table(seen)}),
        Row("usage", "How full the pools are", 8, {
            "host-usage": split.host_usage(seen),
            "time-to-full": fleet.time_to_full(seen),
            "host-committed": fleet.committed(seen),
            "host-cache": fleet.host_cache_usage(seen),
        }),
        Row("tokens", "Where the tokens are", 8, {
            "host-tokens": split.host_tokens(seen),
            "device-tokens": split.device_tokens(seen),
            "device-usage": split.device_usage(seen),
            "device-cache": fleet.cache_usage(seen),
        }),
        Row("swap-in", "What the split costs", 8, {
            "hit-ratio": fleet.hit_ratio(seen),
            "misses": fleet.misses(seen),
            "link": fleet.link_share(seen),
        }),
        Row("work", "What the engines do", 8, {
            "throughput": fleet.throughput(seen),
            "waiting": fleet.waiting(seen),
            "index-committed": fleet.index_committed(seen),
            "pressure": fleet.pressure(seen),
        }),
    ])  # fmt: skip
