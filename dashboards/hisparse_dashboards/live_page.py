"""What the exporter's live page says and looks like, read off the Grafana panels that show the same.

Titles, descriptions, legends, units, colours and thresholds are taken from the built panels, so that the page and the
dashboards cannot differ; only what Grafana expresses as a query is named here as a column of the page's history.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from hisparse_dashboards import palette, split, view, work
from hisparse_dashboards.config import Config
from hisparse_metrics import catalogue as m
from hisparse_metrics.metric import Metric

_PLAIN = "transparent"


@dataclass(frozen=True, slots=True)
class Column:
    """A line of a panel as the live page has it: its column, and the metrics that the column is made of.

    ``name`` stands in for a legend that Grafana fills in from labels.
    """

    column: str
    metrics: tuple[Metric, ...]
    name: str = ""


def render(config: Config) -> str:
    """Return the vocabulary as sorted JSON, the form that is committed with the live page."""
    vocabulary = {
        "colors": _colors(),
        "groups": [
            {"title": title, "panels": [_panel(key, *panel) for key, panel in panels.items()]}
            for title, panels in _groups(config).items()
        ],
        "rate_window": config.rate_window,
        "stalled_seconds": config.thresholds.stalled_seconds,
    }
    return json.dumps(vocabulary, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


_Panels = dict[str, tuple[timeseries.Panel, Sequence[Column]]]


def _groups(config: Config) -> dict[str, _Panels]:
    """Return the page's charts by key, under the headings of the Overview; each with its lines in Grafana's order."""
    seen = view.ranks(config)
    return {
        "How full the pools are": {
            "device-usage": (
                split.device_usage(seen),
                [
                    Column("device_usage", (m.DEVICE_TOKEN_USAGE,), "device"),
                    Column(
                        "device_usage_committed",
                        (m.DEVICE_TOKENS, m.DEVICE_TOKENS_SPARE, m.DEVICE_TOKEN_CAPACITY),
                        "committed",
                    ),
                ],
            ),
            "host-usage": (split.host_usage(seen), [Column("host_usage", (m.HOST_TOKEN_USAGE,), "host")]),
        },
        "Where the tokens are": {
            "device-tokens": (
                split.device_tokens(seen),
                [
                    Column("device_tokens", (m.DEVICE_TOKENS,)),
                    Column("device_spare", (m.DEVICE_TOKENS_SPARE,)),
                    Column("device_capacity", (m.DEVICE_TOKEN_CAPACITY,)),
                ],
            ),
            "host-tokens": (
                split.host_tokens(seen),
                [
                    Column("host_tokens", (m.HOST_TOKENS,)),
                    Column("host_committed", (m.HOST_TOKENS, m.HOST_TOKENS_RESERVED)),
                    Column("host_capacity", (m.HOST_TOKEN_CAPACITY,)),
                ],
            ),
        },
        "What the split costs": {
            "hit-ratio": (
                split.hit_ratio(seen),
                [Column("hit_ratio", (m.SWAP_IN_HITS, m.SWAP_IN_LOOKUPS))],
            ),
            "bandwidth": (
                split.bandwidth(seen),
                [
                    Column("host_to_device", (m.HOST_TO_DEVICE_BYTES,)),
                    Column("device_to_host", (m.DEVICE_TO_HOST_BYTES,)),
                ],
            ),
            "swap-in-seconds": (split.swap_in_seconds(seen), _quantiles("swap_in", m.SWAP_IN_SECONDS)),
            "decode-step": (work.decode_step(seen), _quantiles("step", m.DECODE_STEP_SECONDS)),
        },
        "What the engine does": {
            "throughput": (
                work.throughput(seen),
                [Column("generation", (m.GENERATION_TOKENS,)), Column("prompt", (m.PROMPT_TOKENS,))],
            ),
            "requests": (
                work.requests(seen),
                [
                    Column("running", (m.RUNNING_REQUESTS,)),
                    Column("staging", (m.STAGING_REQUESTS,)),
                    Column("waiting", (m.WAITING_REQUESTS,)),
                ],
            ),
        },
    }


def _quantiles(thing: str, metric: Metric) -> list[Column]:
    return [Column(f"{thing}_p{q * 100:.0f}", (metric,)) for q in palette.QUANTILES]


def _colors() -> dict[str, str]:
    names = ("DEVICE", "HOST", "RESERVED", "SPARE", "CAPACITY", "GOOD", "WARNING", "CRITICAL", "NEUTRAL")
    return {name.lower(): getattr(palette, name) for name in names}


def _panel(key: str, builder: timeseries.Panel, columns: Sequence[Column]) -> dict[str, Any]:
    """Translate a panel; its targets and ``columns`` are the same lines in the same order."""
    panel = json.loads(JSONEncoder().encode(builder.build()))
    defaults = panel["fieldConfig"]["defaults"]
    steps = defaults.get("thresholds", {}).get("steps", [])
    lines = zip(panel["targets"], columns, strict=True)
    return {
        "id": key,
        "title": panel["title"],
        "description": panel["description"],
        "unit": defaults["unit"],
        "axis": defaults["custom"]["axisLabel"],
        "max": defaults.get("max"),
        # The colour from a value upwards; the lowest step has no value.
        "thresholds": [
            {"from": step["value"], "color": "" if step["color"] == _PLAIN else step["color"]}
            for step in steps
        ],
        "lines": [_line(panel, target, column) for target, column in lines],
    }


def _line(panel: dict[str, Any], target: dict[str, Any], column: Column) -> dict[str, Any]:
    style = _style(panel, target["refId"])
    shades = panel["fieldConfig"]["defaults"].get("color", {})
    return {
        "column": column.column,
        "name": column.name or target["legendFormat"],
        "color": style.get("color", shades).get("fixedColor"),
        "dashed": "custom.lineStyle" in style,
        "metrics": [metric.name for metric in column.metrics],
    }


def _style(panel: dict[str, Any], ref_id: str) -> dict[str, Any]:
    """Return what overrides the look of one query, by property."""
    return {
        each["id"]: each["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == ref_id
        for each in override["properties"]
    }
