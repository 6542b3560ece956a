"""HiSparse Sidecar: can the numbers be believed. Logs that are followed, and scrapes of exporters and sidecars."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from hisparse_dashboards import marks, scrapes, sources, view
from hisparse_dashboards.config import Config
from hisparse_dashboards.layout import Page, Row, finish
from hisparse_dashboards.links import SIDECAR_UID
from hisparse_metrics import catalogue as m

SERIES = f'{{__name__=~"{m.SOURCE_UP}|{m.EXPORTER_PAGES_SKIPPED}"}}'
"""What every sidecar or exporter has: the variables offer the labels of both."""


def build(config: Config) -> dashboard.Dashboard:
    """Build the dashboard; this is its table of contents."""
    seen = view.logs(config)
    page = Page(
        SIDECAR_UID,
        "HiSparse Sidecar",
        "Whether the numbers can be believed: logs that are followed, understood and fresh, and scrapes that arrive.",
        seen,
        SERIES,
        [marks.alerts(seen)],
    )
    return finish(page, [
        Row("now", "Now", 4, {
            "unreadable": sources.unreadable(seen),
            "oldest": sources.oldest(seen),
            "behind": sources.behind(seen),
            "targets-down": scrapes.down(seen),
            "unsaved": sources.unsaved(seen),
            "ranks": sources.ranks(seen),
        }),
        Row("sources", "Sources", 8, {"sources": sources.table(seen)}),
        Row("states", "What the logs tell", 8, {
            "states": sources.states(seen),
            "age": sources.age(seen),
        }),
        Row("reading", "Reading and understanding", 8, {
            "lines": sources.lines(seen),
            "not-understood": sources.not_understood(seen),
            "bytes": sources.throughput(seen),
            "lag": sources.lag(seen),
        }),
        Row("scrapes", "From here to Prometheus", 8, {
            "up": sources.up(seen),
            "scrape-duration": scrapes.duration(seen),
            "samples": scrapes.samples(seen),
            "pages-skipped": scrapes.pages_skipped(seen),
        }),
    ])  # fmt: skip
