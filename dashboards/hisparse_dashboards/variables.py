"""The choices at the top of every dashboard: data source, then the labels of a rank, each narrowing the next."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from hisparse_dashboards.panels import DATASOURCE
from hisparse_dashboards.queries import IDENTITY
from hisparse_metrics import catalogue

LABELS = {
    "job": "Job",
    "instance": "Instance",
    "engine_name": "Engine",
    "model_name": "Model",
    "dp_rank": "DP rank",
    "pp_rank": "PP rank",
    "tp_rank": "TP rank",
    "ep_rank": "EP rank",
}
ALL = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
# A model may be unnamed, and an empty label must still match; a target without job or instance cannot exist.
ALL_VALUE = {"job": ".+", "instance": ".+"}


def every_variable() -> list[builders.QueryVariable | builders.DatasourceVariable]:
    """Return fresh builders for all variables, in the order in which they are shown."""
    return [_datasource(), *(_label(index) for index in range(len(IDENTITY)))]


def _datasource() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _label(index: int) -> builders.QueryVariable:
    """Offer the values of one label among the series that the labels before it still select."""
    name, before = IDENTITY[index], IDENTITY[:index]
    matchers = ", ".join(f'{label}=~"${label}"' for label in before)
    series = catalogue.ENGINE_UP.name + (f"{{{matchers}}}" if matchers else "")
    query = f"label_values({series}, {name})"
    return (
        builders.QueryVariable(name)
        .label(LABELS[name])
        .datasource(DATASOURCE)
        .query({"query": query, "refId": f"variable-{name}"})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(ALL_VALUE.get(name, ".*"))
        .current(ALL)
    )
