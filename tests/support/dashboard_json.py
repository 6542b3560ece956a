"""Reading a dashboard's JSON in tests: its panels, its targets, and the selectors inside a PromQL expression."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind

Json = dict[str, Any]

GENERATED = Path(__file__).parents[2] / "dashboards/generated"
SELECTOR = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^}]*)\})?(\[[^]]*\])?")
BUILTIN = {"up", "ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"}
"""Series that Prometheus itself makes."""
METRIC_NAME = re.compile(rf"\b(?:(?:hisparse[_:]|vllm:)[a-zA-Z0-9_:]*|{'|'.join(sorted(BUILTIN))})\b")
VARIABLE = re.compile(r'(\w+)=~"\$(\w+)(\|?)"')


class Selector(NamedTuple):
    """One series selector of an expression."""

    name: str
    matchers: str
    window: str


class Query(NamedTuple):
    """One target of one panel."""

    board: str
    panel: str
    legend: str
    expr: str

    def __str__(self) -> str:
        return f"{self.board} / {self.panel} / {self.legend}"


def committed() -> list[Json]:
    """Return the committed dashboards, by file name."""
    return [json.loads(path.read_text()) for path in sorted(GENERATED.glob("*.json"))]


def data_panels(board: Json) -> list[Json]:
    """Return all panels but the rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: Json) -> Iterator[Query]:
    """Yield every target of every panel."""
    for panel in data_panels(board):
        for target in panel["targets"]:
            yield Query(board["uid"], panel["title"], target["legendFormat"], target["expr"])


def variables(board: Json) -> dict[str, Json]:
    """Return the variables by name, in their order."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def label_variables(board: Json) -> list[str]:
    """Return the names of the variables that are labels of series."""
    return [name for name in variables(board) if name != "datasource"]


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


def filled_in(expr: str, window: str, chosen: dict[str, str] | None = None) -> str:
    """Return ``expr`` as Grafana sends it: with these values chosen, and "All" for every other variable."""

    def value(match: re.Match[str]) -> str:
        label, name, or_empty = match.groups()
        everything = ".+" if name in {"job", "instance"} else ".*"
        return f'{label}=~"{(chosen or {}).get(name, everything)}{or_empty}"'

    return VARIABLE.sub(value, expr.replace("$__rate_interval", window))
