"""Every query of every panel and variable, run by a real Prometheus over a live exporter."""

from __future__ import annotations

import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import EngineIdentity
from tests.support import fake_engine
from tests.support.dashboard_json import Query, filled_in, promql_blocks, queries
from tests.support.programs import promtool
from tests.support.prometheus import PrometheusServer

ROOT = Path(__file__).parents[2]
BOARD: dict[str, Any] = json.loads((ROOT / "dashboards/generated/hisparse-overview.json").read_text())
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
QUERIES = list(queries(BOARD))
VARIABLES = [variable for variable in BOARD["templating"]["list"] if variable["type"] == "query"]
RUNBOOK_QUERIES = [
    pytest.param(expr, id=f"{path.stem}-{expr}")
    for path in sorted((ROOT / "docs/runbooks").glob("*.md"))
    for expr in promql_blocks(path.read_text())
]
SCRAPE_INTERVAL = "250ms"
RATE_INTERVAL = "2s"
EMPTY_WHEN_IDLE_AND_RESIDENT = {
    "Fullest host pool", "Host token usage", "Hit ratio now", "Hit ratio", "Time since the last step",
}  # fmt: skip
NAN_WHEN_IDLE = {"Time to first token", "Inter-token latency", "Decode step", "Swap-in time per step"}
RANKS = [EngineIdentity(model_name="tiny", dp_rank=rank, mode="hierarchical") for rank in (0, 1)]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """Two data-parallel ranks under load."""
    pages = tmp_path_factory.mktemp("busy")
    with (
        fake_engine.stepping(pages, RANKS[0]),
        fake_engine.stepping(pages, RANKS[1]),
        scraped(pages) as prometheus,
    ):
        prometheus.wait_for("sum(count_over_time(hisparse_decode_steps_total[10s])) > 16")
        yield prometheus


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """One resident engine without work."""
    pages = tmp_path_factory.mktemp("idle")
    with Recorder(pages, EngineIdentity(mode="resident")) as recorder, scraped(pages) as prometheus:
        recorder.publish(fake_engine.idle_resident_step(time.time()))
        prometheus.wait_for("count_over_time(hisparse_decode_steps_total[10s]) > 8")
        yield prometheus


@contextmanager
def scraped(pages: Path) -> Iterator[PrometheusServer]:
    """Serve ``pages`` by a live exporter and scrape it with a Prometheus that has our rules."""
    with Exporter(PageCollector(PageFolder(pages)), port=0) as exporter:
        target = f"127.0.0.1:{exporter.port}"
        with PrometheusServer([target], RULES, SCRAPE_INTERVAL) as prometheus:
            yield prometheus


def ask(prometheus: PrometheusServer, query: Query) -> list[float]:
    return [sample.value for sample in prometheus.query(filled_in(query.expr, RATE_INTERVAL))]


def ask_panel(prometheus: PrometheusServer, panel: str) -> dict[str, float]:
    """Legend → value, of a panel whose targets have one series each."""
    return {query.legend: ask(prometheus, query)[0] for query in QUERIES if query.panel == panel}


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query_of_a_busy_engine_has_a_finite_answer(busy: PrometheusServer, query: Query) -> None:
    values = ask(busy, query)
    assert values, query.expr
    assert all(math.isfinite(value) for value in values), values


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query_of_an_idle_resident_engine_tells_null_from_zero(idle: PrometheusServer, query: Query) -> None:
    values = ask(idle, query)
    if query.panel in EMPTY_WHEN_IDLE_AND_RESIDENT:
        assert values == []
    elif query.panel in NAN_WHEN_IDLE:
        assert all(math.isnan(value) for value in values)
    else:
        assert values
        assert all(math.isfinite(value) for value in values)


def test_the_panels_show_the_numbers_of_the_engine(busy: PrometheusServer) -> None:
    assert ask_panel(busy, "Device tokens") == {"device tokens": 1_600, "capacity": 2_000}
    host = ask_panel(busy, "Host tokens")
    assert host["capacity"] == 20_000
    assert host["host tokens"] > 4_000
    assert ask_panel(busy, "Requests") == {"running": 8, "staging": 2, "waiting": 4}
    assert ask_panel(busy, "Hit ratio now") == {"hits": pytest.approx(0.9)}
    assert ask_panel(busy, "Fullest device pool") == {"device": 0.8}
    assert ask_panel(busy, "Down") == {"engines": 0, "exporters": 0}
    assert 0 <= ask_panel(busy, "Time since the last step")["silent for"] < 2


def test_rates_agree_with_each_other(busy: PrometheusServer) -> None:
    moment = time.time()
    rate = {q.legend: busy.query(filled_in(q.expr, RATE_INTERVAL), moment)[0].value for q in QUERIES
            if q.panel in {"Throughput", "Swap-in and backup bandwidth"}}  # fmt: skip
    assert rate["generated"] > 0
    assert rate["prompt"] == pytest.approx(rate["generated"] * 100 / fake_engine.RUNNING)
    per_token = fake_engine.BYTES_PER_ROW * fake_engine.MISSES_PER_STEP / fake_engine.RUNNING
    assert rate["host to device (swap-in)"] == pytest.approx(rate["generated"] * per_token)


@pytest.mark.parametrize(
    ("panel", "low", "high"),
    [
        ("Decode step", 0.01, 0.015),
        ("Inter-token latency", 0.01, 0.015),
        ("Swap-in time per step", 0.001, 0.002),
        ("Time to first token", 0.2, 0.3),
    ],
)
def test_quantiles_lie_in_the_bucket_of_what_was_observed(
    busy: PrometheusServer, panel: str, low: float, high: float
) -> None:
    quantiles = ask_panel(busy, panel)
    assert list(quantiles) == ["p50", "p95", "p99"]
    assert low <= quantiles["p50"] <= quantiles["p95"] <= quantiles["p99"] <= high


def test_one_rank_can_be_chosen(busy: PrometheusServer) -> None:
    query = next(query for query in QUERIES if query.panel == "Requests" and query.legend == "running")
    chosen = filled_in(query.expr.replace('dp_rank=~"$dp_rank"', 'dp_rank=~"1"'), RATE_INTERVAL)
    assert [sample.value for sample in busy.query(chosen)] == [4]


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: str(variable["name"]))
def test_variable_offers_what_the_engine_says(busy: PrometheusServer, variable: dict[str, Any]) -> None:
    series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
    values = busy.api(f"label/{label}/values", **{"match[]": filled_in(series, RATE_INTERVAL)})
    assert values == {
        "job": ["hisparse"],
        "instance": values,
        "engine_name": ["hisparse"],
        "model_name": ["tiny"],
        "dp_rank": ["0", "1"],
    }.get(label, ["0"])
    assert values


@pytest.mark.parametrize("expr", RUNBOOK_QUERIES)
def test_runbook_query_is_valid(busy: PrometheusServer, expr: str) -> None:
    busy.query(expr)


def test_rules_are_healthy_and_every_recorded_series_has_data(busy: PrometheusServer) -> None:
    groups = busy.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 15
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    for rule in rules:
        if rule["type"] == "recording":
            assert len(busy.query(rule["name"])) == len(RANKS), rule["name"]


def test_the_exposition_passes_promtool(tmp_path: Path) -> None:
    with (
        Recorder(tmp_path, RANKS[0]) as recorder,
        Exporter(PageCollector(PageFolder(tmp_path)), port=0) as exporter,
    ):
        recorder.publish(fake_engine.busy_step(1, time.time()))
        with urllib.request.urlopen(urllib.parse.urljoin(exporter.url, "/metrics"), timeout=10) as answer:
            text = answer.read().decode()
    assert catalogue.HOST_TOKENS.name in text
    done = promtool("check", "metrics", stdin=text)
    assert (done.stdout, done.stderr) == ("", "")
