"""The choices at the top of a dashboard: data source, then its labels, each narrowing those after it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from hisparse_dashboards.panels import DATASOURCE
from hisparse_dashboards.view import ENGINE_KIND, View

TITLES = {
    ENGINE_KIND: "Engine kind",
    "job": "Job",
    "instance": "Instance",
    "engine_name": "Engine",
    "model_name": "Model",
    "dp_rank": "DP rank",
    "pp_rank": "PP rank",
    "tp_rank": "TP rank",
    "ep_rank": "EP rank",
    "source": "Source",
}
HINTS = {
    ENGINE_KIND: "hisparse: our own stats pages; sglang: what a sidecar reads in its log; vllm: its own metrics. "
    "Narrows the lists after it; panels of what only our stats pages tell are about our engine in any case.",
}
ALL = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
# A target without job or instance cannot exist. Any other label may be absent, which is the same as empty.
ALL_VALUE = {"job": ".+", "instance": ".+"}


def every_variable(view: View, series: str) -> list[builders.QueryVariable | builders.DatasourceVariable]:
    """Return fresh builders for all variables, in the order in which they are shown; ``series`` knows their values."""
    return [_datasource(), *(_label(view.labels, index, series) for index in range(len(view.labels)))]


def _datasource() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _label(labels: tuple[str, ...], index: int, series: str) -> builders.QueryVariable:
    """Offer the values of one label among the series that the labels before it still select."""
    name, before = labels[index], labels[:index]
    query = f"label_values({_narrowed(series, before)}, {name})"
    return (
        builders.QueryVariable(name)
        .label(TITLES.get(name, name.replace("_", " ").capitalize()))
        .description(HINTS.get(name, ""))
        .datasource(DATASOURCE)
        .query({"query": query, "refId": f"variable-{name}"})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(ALL_VALUE.get(name, ".*"))
        .current(ALL)
    )


def _narrowed(series: str, labels: tuple[str, ...]) -> str:
    """Add matchers of ``labels`` to a name, or to a selector that has some already."""
    matchers = ", ".join(f'{label}=~"${label}"' for label in labels)
    if not matchers:
        return series
    return f"{series[:-1]}, {matchers}}}" if series.endswith("}") else f"{series}{{{matchers}}}"
