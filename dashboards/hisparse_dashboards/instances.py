"""The table of engines: one row a data-parallel rank, whichever kind of engine it is, and where to look closer."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.builders import table as builders

from hisparse_dashboards import expressions, links, palette, tables
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.panels import PLAIN, falling, rising
from hisparse_dashboards.queries import largest_by, smallest_by
from hisparse_dashboards.tables import Column
from hisparse_dashboards.view import ENGINE_KIND, View

LABELS = (
    (ENGINE_KIND, "Kind"),
    ("job", "Job"),
    ("instance", "Instance"),
    ("engine_name", "Engine"),
    ("model_name", "Model"),
    ("dp_rank", "DP rank"),
)
STATES = (
    (0, "down", palette.CRITICAL),
    (1, "idle", palette.NEUTRAL),
    (2, "working", palette.GOOD),
    (3, "stalled", palette.CRITICAL),
)


def instances(view: View) -> builders.Panel:
    """List engines with what matters about each, fullest first."""
    panel = tables.merged(
        "Engines",
        "How is each engine, and which needs a closer look? One row a data-parallel rank (its worst tensor-, pipeline- or "
        "expert-parallel rank), fullest host pool first; a click on Instance opens the Engine dashboard with this row "
        "chosen. –: the engine does not tell: SGLang's log has no hit ratio, and is no longer believed once it is silent. "
        "Committed is what hot buffers would not give back of Device. Device and Host are pools; vLLM's blocks, evictable ones among them, are caches, another thing, in columns of their own.",
        [*((label, label.capitalize()) for label in view.places), *LABELS],
        list(_columns(view)),
        "Host",
    )
    return tables.linked(panel, "Instance", links.to_engine(view))


def _columns(view: View) -> Iterator[Column]:
    limits = view.limits
    host = rising(limits.host_usage_warning, limits.host_usage_critical)
    soon = falling(2 * limits.host_exhaustion_seconds, limits.host_exhaustion_seconds)
    yield Column("State", _state(view), states=STATES)
    yield Column("Host", _worst(view, v.HOST_TOKEN_USAGE), palette.RATIO, host, bar=True)
    yield Column("Full in", smallest_by(_row(view), expressions.time_to_full(view)), palette.SECONDS, soon)
    device = rising(limits.device_committed_warning)
    yield Column("Device", _worst(view, v.DEVICE_TOKEN_USAGE), palette.RATIO, PLAIN, bar=True)
    yield Column("Committed", _worst(view, v.DEVICE_COMMITTED), palette.RATIO, device)
    yield Column("Device cache", _worst(view, v.DEVICE_CACHE_USAGE), palette.RATIO)
    yield Column("Host cache", _worst(view, v.HOST_CACHE_USAGE), palette.RATIO)
    hits = smallest_by(_row(view), view.recorded.recorded(v.HIT_RATIO))
    yield Column("Hit ratio", hits, palette.RATIO, falling(limits.hit_ratio_warning))
    yield Column("Tokens/s", _worst(view, v.GENERATION))
    yield Column("Running", _worst(view, v.RUNNING))
    yield Column("Waiting", _worst(view, v.WAITING))


def _row(view: View) -> tuple[str, ...]:
    return (*view.places, *(label for label, _ in LABELS))


def _worst(view: View, name: str) -> str:
    return largest_by(_row(view), view.recorded.recorded(name))


def _state(view: View) -> str:
    """Say stalled before down before working before idle; nothing where nobody knows."""
    row, recorded = _row(view), view.recorded.recorded
    stalled = f"3 * ({largest_by(row, recorded(v.STALLED))} == 1)"
    down = f"{smallest_by(row, recorded(v.ENGINE_UP))} == 0"
    alive = f"{largest_by(row, recorded(v.RUNNING))} > bool 0"
    return f"({stalled}) or ({down}) or (1 + ({alive})) or {largest_by(row, recorded(v.ENGINE_UP))}"
