"""Reading a dashboard's JSON in tests: its panels, its targets, and the selectors inside a PromQL expression."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind

Json = dict[str, Any]

SELECTOR = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^}]*)\})?(\[[^]]*\])?")
METRIC_NAME = re.compile(r"\b(?:(?:hisparse[_:]|vllm:)[a-zA-Z0-9_:]*|up)\b")


class Selector(NamedTuple):
    """One series selector of an expression."""

    name: str
    matchers: str
    window: str


class Query(NamedTuple):
    """One target of one panel."""

    panel: str
    legend: str
    expr: str

    def __str__(self) -> str:
        return f"{self.panel} / {self.legend}"


def data_panels(board: Json) -> list[Json]:
    """Return all panels but the rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: Json) -> Iterator[Query]:
    """Yield every target of every panel."""
    for panel in data_panels(board):
        for target in panel["targets"]:
            yield Query(panel["title"], target["legendFormat"], target["expr"])


def selectors(expr: str) -> list[Selector]:
    """Return the series selectors of ``expr``; label names inside ``by (…)`` and functions are not series."""
    found = (Selector(name, matchers, window) for name, matchers, window in SELECTOR.findall(expr))
    return [selector for selector in found if METRIC_NAME.fullmatch(selector.name)]


def promql_blocks(markdown: str) -> list[str]:
    """Return the queries of a runbook, one for each line of its promql blocks."""
    blocks = re.findall(r"```promql\n(.*?)```", markdown, re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def exposed_names() -> set[str]:
    """Return every series name that an exporter of the catalogue can expose."""
    names = {metric.name for metric in catalogue.ALL}
    histograms = [metric.name for metric in catalogue.ALL if metric.kind is Kind.HISTOGRAM]
    return names | {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}


def filled_in(expr: str, window: str) -> str:
    """Return ``expr`` as Grafana sends it with "All" chosen everywhere."""
    return re.sub(r'"\$\w+"', '".*"', expr.replace("$__rate_interval", window))
