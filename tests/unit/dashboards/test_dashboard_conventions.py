"""What every dashboard of ours keeps, beyond the linter's rules: identity, variables, links, words, grid."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from hisparse_dashboards import engine, layout, overview, sidecar
from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.config import DEFAULT
from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind
from tests.support.dashboard_json import (
    BUILTIN,
    VARIABLE,
    Json,
    data_panels,
    exposed_names,
    label_variables,
    queries,
    selectors,
    variables,
)

RECORDED = {name for name in vars(v).values() if isinstance(name, str) and name.startswith("hisparse:")}
OVERVIEW_LABELS = ["engine", "job", "instance", "engine_name", "model_name"]
RANKS = ["dp_rank", "pp_rank", "tp_rank", "ep_rank"]
LABELS = {
    "hisparse-overview": OVERVIEW_LABELS,
    "hisparse-engine": OVERVIEW_LABELS + RANKS,
    "hisparse-sidecar": ["job", "instance", "source"],
}
WITHOUT_ENGINE_KIND = {"engine"}
"""No exporter has the label ``engine``; only recorded series do."""


# --- identity ---


def test_dashboard_is_classic_and_identified(board: Json) -> None:
    assert board["schemaVersion"] == 42
    assert board["uid"] in LABELS
    assert board["title"] == board["uid"].replace("-", " ").title().replace("Hisparse", "HiSparse")
    assert board["tags"] == ["hisparse"]
    assert board["refresh"] == "10s"
    assert board.get("id") is None


def test_ids_are_unique_and_positive(board: Json) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0


def test_ids_are_the_ones_that_links_already_use(overview: Json, engine: Json) -> None:
    """Alerts and people link to panels by id: changing one breaks their links."""
    for board in (overview, engine):
        ids = {panel["title"]: panel["id"] for panel in data_panels(board)}
        assert ids["Host token usage"] == 729482
        assert ids["Device token usage"] == 832862


# --- variables and links ---


def test_the_labels_of_a_dashboard_are_its_variables_and_all_works(board: Json) -> None:
    assert label_variables(board) == LABELS[board["uid"]]
    for name in label_variables(board):
        variable = variables(board)[name]
        assert variable["includeAll"] is True
        assert variable["current"]["value"] == ["$__all"]
        assert variable["allValue"] == (".+" if name in {"job", "instance"} else ".*"), (
            "absent labels must match"
        )


def test_each_variable_narrows_those_after_it(board: Json) -> None:
    names = label_variables(board)
    for index, name in enumerate(names):
        query = variables(board)[name]["query"]["query"]
        assert query.endswith(f", {name})")
        assert [label for label, variable, _ in VARIABLE.findall(query) if label == variable] == names[:index]


def test_a_configured_cluster_and_namespace_come_first_and_select_everything() -> None:
    config = DEFAULT.model_copy(
        update={"cluster_label": "cluster", "namespace_label": "kubernetes_namespace"}
    )
    for module in (overview, engine, sidecar):
        board = layout.as_json(module.build(config))
        assert label_variables(board)[:2] == ["cluster", "kubernetes_namespace"]
        assert variables(board)["kubernetes_namespace"]["label"] == "Kubernetes namespace"
        for query in queries(board):
            for selector in selectors(query.expr):
                assert 'cluster=~"$cluster' in selector.matchers, query
                assert 'kubernetes_namespace=~"$kubernetes_namespace' in selector.matchers, query


def test_links_keep_variables_and_time(board: Json) -> None:
    [link] = board["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["hisparse"])
    assert link["includeVars"] is True
    assert link["keepTime"] is True
    assert "placement" not in link, "beside the variables, not in a menu"


def test_a_row_of_the_fleet_leads_to_its_engine(overview: Json, engine: Json) -> None:
    [table] = [panel for panel in data_panels(overview) if panel["title"] == "Engines"]
    [link] = [
        link
        for override in table["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "links"
        for link in each["value"]
    ]
    address, _, query = link["url"].partition("?")
    assert address == f"/d/{engine['uid']}"
    assert "${__url_time_range}" in query
    assert "${datasource:queryparam}" in query
    chosen = re.findall(r"var-(\w+)=\$\{__data\.fields\.(\w+):percentencode\}", query)
    assert chosen
    assert all(name == field and name in label_variables(engine) for name, field in chosen)


def test_every_selector_matches_every_variable_that_its_series_can_have(board: Json) -> None:
    for query in queries(board):
        for selector in selectors(query.expr):
            if selector.name in BUILTIN or selector.name in {
                catalogue.EXPORTER_PAGES_SKIPPED.name,
                catalogue.SIDECAR_STATE_FILE_FAILURES.name,
            }:
                expected = {"job", "instance"}
            elif selector.name in RECORDED:
                expected = set(label_variables(board))
            else:
                expected = set(label_variables(board)) - WITHOUT_ENGINE_KIND
            found = {label for label, variable, _ in VARIABLE.findall(selector.matchers) if label == variable}
            assert found == expected, query


# --- words ---


def test_every_description_says_what_it_answers_and_what_to_do(board: Json) -> None:
    for panel in data_panels(board):
        assert "?" in panel["description"], f"{panel['title']}: the description must say what it answers"
        assert len(panel["description"]) > 80, f"{panel['title']}: and what to do"


def test_titles_are_unique(board: Json) -> None:
    titles = Counter(panel["title"] for panel in data_panels(board))
    assert max(titles.values()) == 1, titles.most_common(1)


def test_ref_ids_are_distinct_within_a_panel(board: Json) -> None:
    for panel in data_panels(board):
        ids = [target["refId"] for target in panel["targets"]]
        assert len(set(ids)) == len(ids), panel["title"]


# --- grid ---


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


# --- what is asked ---


def test_every_series_exists(board: Json) -> None:
    for query in queries(board):
        unknown = {selector.name for selector in selectors(query.expr)} - exposed_names() - RECORDED - BUILTIN
        assert not unknown, query


def test_the_overview_reads_the_recorded_vocabulary_alone(overview: Json) -> None:
    for query in queries(overview):
        assert {selector.name for selector in selectors(query.expr)} <= RECORDED | {"up", "ALERTS"}, query


def test_the_first_panel_of_the_overview_answers_the_biggest_question(overview: Json) -> None:
    first = min(data_panels(overview), key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    assert first["title"] == "Full first, and in how long"
    assert v.HOST_TIME_TO_FULL in first["targets"][0]["expr"]


def test_every_metric_of_the_catalogue_is_on_a_dashboard_or_recorded() -> None:
    """A metric that no dashboard shows and no rule records might as well not exist."""
    from hisparse_dashboards.recording import every_engine

    boards = [layout.as_json(module.build(DEFAULT)) for module in (overview, engine, sidecar)]
    exprs = [query.expr for board in boards for query in queries(board)]
    exprs += [mark["target"]["expr"] for board in boards for mark in board["annotations"]["list"]]
    exprs += [rule.expr for rule in every_engine(DEFAULT)]
    shown = {selector.name for expr in exprs for selector in selectors(expr)}
    for metric in catalogue.ALL:
        names = {f"{metric.name}_bucket"} if metric.kind is Kind.HISTOGRAM else {metric.name}
        assert names <= shown, metric.name


ANSWERED = {
    "hisparse-overview": {
        "Full first, and in how long", "Fullest host pool", "Alerts firing", "Engines", "Firing alerts", "Host token usage",
        "Device token usage", "Device cache usage (vLLM)", "Hit ratio by engine", "Generated tokens per second by engine",
    },
    "hisparse-engine": {
        "Device tokens", "Host tokens", "Index keys", "Device token usage", "Host token usage", "Hit ratio",
        "Rows looked up, found, fetched, evicted", "Swap-in and backup bandwidth", "Busiest link", "Decode step",
        "Swap-in time per step", "Swap-in's share of a step", "Throughput", "Requests", "Prompt tokens reused",
        "Requests by outcome", "Retractions per minute", "Time to first token", "Inter-token latency",
        "Time to first token, distribution", "Inter-token latency, distribution", "Verify checks", "What runs here",
        "Throughput as logged (SGLang)", "Failures in the log (SGLang)",
    },
    "hisparse-sidecar": {
        "Unreadable sources", "Oldest last record", "Bytes behind", "State file failures", "Sources",
        "What each log tells of its engine", "Age of the last record", "Lines by outcome", "Not understood", "Bytes read",
        "Scrape duration", "Samples per scrape", "Stats pages skipped",
    },
}  # fmt: skip


@pytest.mark.parametrize("uid", ANSWERED)
def test_the_dashboard_answers(uid: str, request: pytest.FixtureRequest) -> None:
    board = request.getfixturevalue(uid.removeprefix("hisparse-"))
    assert ANSWERED[uid] <= {panel["title"] for panel in data_panels(board)}


def test_restarts_alerts_and_deaths_are_marked(engine: Json) -> None:
    marks = {mark["name"]: mark for mark in engine["annotations"]["list"]}
    assert set(marks) == {"Alerts", "Engine down", "Starts", "Starts in the log"}
    assert all(mark["enable"] for mark in marks.values())
    assert marks["Starts"]["useValueForTime"] is True, (
        "a start is marked when it was, not when it was scraped"
    )
    assert catalogue.ENGINE_START_TIME_SECONDS.name in marks["Starts"]["target"]["expr"]
