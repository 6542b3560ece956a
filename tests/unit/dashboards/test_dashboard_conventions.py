"""The Overview keeps the rules of Grafana's dashboard-linter, written out as tests."""

from __future__ import annotations

import re

import pytest
from grafana_foundation_sdk.models import units

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind
from tests.support.dashboard_json import Json, data_panels, exposed_names, queries, selectors

GRAFANA_UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and name[0].isupper()}
COUNTERS = {metric.name for metric in catalogue.ALL if metric.kind is Kind.COUNTER}
HISTOGRAM_PARTS = {
    f"{metric.name}_{part}"
    for metric in catalogue.ALL
    if metric.kind is Kind.HISTOGRAM
    for part in ("bucket", "count", "sum")
}
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}


def variables(board: Json) -> dict[str, Json]:
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def test_dashboard_is_classic_identified_and_not_editable(board: Json) -> None:
    assert board["schemaVersion"] == 42
    assert board["uid"] == "hisparse-overview"
    assert board["title"] == "HiSparse Overview"
    assert board["tags"] == ["hisparse"]
    assert board["refresh"] == "10s"
    assert board["editable"] is False
    assert board.get("id") is None


def test_data_source_is_a_variable_used_everywhere(board: Json) -> None:
    source = variables(board)["datasource"]
    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")
    assert board["templating"]["list"][0] is source
    for panel in data_panels(board):
        assert panel["datasource"] == PROMETHEUS, panel["title"]
        assert all(target["datasource"] == PROMETHEUS for target in panel["targets"]), panel["title"]


def test_every_identity_label_is_a_variable_whose_all_works(board: Json) -> None:
    names = [name for name in variables(board) if name != "datasource"]
    assert names == ["job", "instance", *(label.name for label in catalogue.ENGINE_LABELS)]
    for name in names:
        variable = variables(board)[name]
        assert variable["type"] == "query"
        assert variable["datasource"] == PROMETHEUS
        assert variable["multi"] is True
        assert variable["includeAll"] is True
        assert variable["allValue"] == (".+" if name in {"job", "instance"} else ".*")
        assert variable["refresh"] == 2, "must follow the time range"
        assert variable["label"]


def test_each_variable_narrows_those_after_it(board: Json) -> None:
    names = [name for name in variables(board) if name != "datasource"]
    for index, name in enumerate(names):
        query = variables(board)[name]["query"]["query"]
        assert re.fullmatch(r"label_values\(hisparse_engine_up(\{.*\})?, " + name + r"\)", query)
        assert re.findall(r'(\w+)=~"\$\1"', query) == names[:index]


def test_every_panel_has_title_description_unit_and_targets(board: Json) -> None:
    assert len(data_panels(board)) >= 15
    for panel in data_panels(board):
        assert panel["title"]
        assert "?" in panel["description"], f"{panel['title']}: the description must say what it answers"
        assert len(panel["description"]) > 80, f"{panel['title']}: and what to do"
        assert panel["fieldConfig"]["defaults"]["unit"] in GRAFANA_UNITS, panel["title"]
        assert panel["targets"], panel["title"]


def test_titles_are_unique(board: Json) -> None:
    titles = [panel["title"] for panel in data_panels(board)]
    assert len(set(titles)) == len(titles)


def test_ids_are_unique_and_positive(board: Json) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0


def test_ids_are_the_ones_that_links_already_use(board: Json) -> None:
    """Alerts and people link to panels by id: changing one breaks their links."""
    ids = {panel["title"]: panel["id"] for panel in data_panels(board)}
    assert ids["Host token usage"] == 729482
    assert ids["Device token usage"] == 832862


def test_panels_fill_the_grid_without_overlap(board: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert taken == {(x, y) for x in range(24) for y in range(height)}


def test_rows_are_open_and_carry_no_panels(board: Json) -> None:
    """Grafana drops panels that an open row carries itself."""
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    assert rows
    assert all(not row["collapsed"] and not row["panels"] for row in rows)


def test_every_selector_matches_job_instance_and_rank(board: Json) -> None:
    for query in queries(board):
        assert selectors(query.expr), query
        for selector in selectors(query.expr):
            labels = ["job", "instance"] if selector.name == "up" else list(variables(board))[1:]
            assert re.findall(r'(\w+)=~"\$\1"', selector.matchers) == labels, query


def test_every_series_is_in_the_catalogue(board: Json) -> None:
    for query in queries(board):
        unknown = {selector.name for selector in selectors(query.expr)} - exposed_names() - {"up"}
        assert not unknown, query


def test_counters_are_rated_over_the_rate_interval_and_gauges_are_not(board: Json) -> None:
    for query in queries(board):
        for selector in selectors(query.expr):
            is_counter = selector.name in COUNTERS | HISTOGRAM_PARTS
            assert selector.window == ("[$__rate_interval]" if is_counter else ""), query
            if is_counter:
                assert f"rate({selector.name}{{" in query.expr, query


def test_ref_ids_are_distinct_within_a_panel(board: Json) -> None:
    for panel in data_panels(board):
        ids = [target["refId"] for target in panel["targets"]]
        assert len(set(ids)) == len(ids), panel["title"]


@pytest.mark.parametrize("title", ["Device tokens", "Host tokens", "Device token usage", "Host token usage",
                                   "Hit ratio", "Swap-in and backup bandwidth", "Throughput", "Requests",
                                   "Time to first token", "Inter-token latency", "Decode step",
                                   "Swap-in time per step", "Down", "Time since the last step"])  # fmt: skip
def test_the_overview_answers(board: Json, title: str) -> None:
    assert title in [panel["title"] for panel in data_panels(board)]
