"""The 17 rules of Grafana's dashboard-linter, one test a rule, under the rule's name.

The linter is a Go program that no package registry of ours carries, so its rules are written out. Two are for LogQL:
there must be none. One exclusion is needed, and is named where it is made.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.models import units

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind
from tests.support.dashboard_json import Json, data_panels, filled_in, queries, selectors, variables
from tests.support.programs import promtool

GRAFANA_UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and name[0].isupper()}
COUNTERS = {metric.name for metric in catalogue.ALL if metric.kind is Kind.COUNTER}
HISTOGRAM_PARTS = tuple(
    f"{metric.name}_{part}"
    for metric in catalogue.ALL
    if metric.kind is Kind.HISTOGRAM
    for part in ("bucket", "count", "sum")
)
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
WITHOUT_INSTANCE = {"ALERTS"}
"""Excluded from target-job-rule and target-instance-rule: alerts about something absent have neither label, and are the
last that a choice of instances may hide. They match ``$job`` and ``$instance``, or nothing."""


def query_variables(board: Json) -> list[Json]:
    return [variable for variable in variables(board).values() if variable["type"] == "query"]


def test_template_datasource_rule(board: Json) -> None:
    [source] = [v for v in variables(board).values() if v["type"] == "datasource"]
    assert (source["name"], source["label"], source["query"]) == ("datasource", "Data source", "prometheus")
    assert board["templating"]["list"][0] is source


@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_rule_and_template_instance_rule(board: Json, name: str) -> None:
    variable = variables(board)[name]
    assert variable["datasource"] == PROMETHEUS
    assert variable["type"] == "query"
    assert variable["label"] == name.title()
    assert variable["multi"] is True
    assert variable["allValue"] == ".+"


def test_template_label_promql_rule(board: Json, tmp_path: Path) -> None:
    found = [re.fullmatch(r"label_values\((.*), \w+\)", v["query"]["query"]) for v in query_variables(board)]
    assert found
    assert all(found)
    parse([match[1] for match in found if match], tmp_path)


def test_template_on_time_change_reload(board: Json) -> None:
    assert all(variable["refresh"] == 2 for variable in query_variables(board))


def test_panel_datasource_rule(board: Json) -> None:
    for panel in data_panels(board):
        assert panel["datasource"] == PROMETHEUS, panel["title"]
        assert all(target["datasource"] == PROMETHEUS for target in panel["targets"]), panel["title"]
    assert all(mark["datasource"] == PROMETHEUS for mark in board["annotations"]["list"])


def test_panel_title_description_rule(board: Json) -> None:
    for panel in data_panels(board):
        assert panel["title"]
        assert panel["description"]


def test_panel_units_rule(board: Json) -> None:
    for panel in data_panels(board):
        assert panel["fieldConfig"]["defaults"]["unit"] in GRAFANA_UNITS, panel["title"]
        for override in panel["fieldConfig"]["overrides"]:
            for each in override["properties"]:
                assert each["id"] != "unit" or each["value"] in GRAFANA_UNITS, panel["title"]


def test_panel_no_targets_rule(board: Json) -> None:
    assert all(panel["targets"] for panel in data_panels(board))


def test_target_logql_rule_and_target_logql_auto_rule(board: Json) -> None:
    assert "loki" not in str(board).lower()


def test_target_promql_rule(board: Json, tmp_path: Path) -> None:
    exprs = [query.expr for query in queries(board)]
    parse([*exprs, *(mark["target"]["expr"] for mark in board["annotations"]["list"])], tmp_path)


def test_target_rate_interval_rule(board: Json) -> None:
    for query in queries(board):
        for selector in selectors(query.expr):
            assert selector.window in {"", "[$__rate_interval]"}, query


@pytest.mark.parametrize("name", ["job", "instance"])
def test_target_job_rule_and_target_instance_rule(board: Json, name: str) -> None:
    for query in queries(board):
        assert selectors(query.expr), query
        for selector in selectors(query.expr):
            or_none = "|" if selector.name in WITHOUT_INSTANCE else ""
            assert f'{name}=~"${name}{or_none}"' in selector.matchers, query


def test_target_counter_agg_rule(board: Json) -> None:
    for query in queries(board):
        for selector in selectors(query.expr):
            if selector.name in COUNTERS or selector.name in HISTOGRAM_PARTS:
                assert re.search(rf"\b(rate|increase)\({selector.name}\{{", query.expr), query
                assert selector.window, query


def test_uneditable_dashboard(board: Json) -> None:
    assert board["editable"] is False


def parse(exprs: list[str], folder: Path) -> None:
    """Let Prometheus' own parser read every expression."""
    rules = [{"record": f"parsed:{index}", "expr": filled_in(expr, "1m")} for index, expr in enumerate(exprs)]
    path = folder / "parsed.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "parsed", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", path).stdout
