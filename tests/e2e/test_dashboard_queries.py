"""Every query of every panel, variable and mark of all dashboards, run by a real Prometheus with all three engines at once.

What an engine does not tell is empty on purpose; ``SILENT`` says where, and nothing else may be.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hisparse_dashboards.config import DEFAULT
from hisparse_metrics import catalogue
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import EngineIdentity
from tests.support import fake_engine, growing_log, three_engines
from tests.support.dashboard_json import Json, Query, committed, filled_in, promql_blocks, queries, variables
from tests.support.npm import require_packages
from tests.support.programs import promtool
from tests.support.prometheus import PrometheusServer, Sample
from tests.support.three_engines import JOBS, RANKS, RATE_INTERVAL, RULES, SCRAPE_INTERVAL, VLLM, Moment

ROOT = Path(__file__).parents[2]
TRANSFORM = ROOT / "tests/grafana/transform.mjs"
BOARDS = {board["uid"]: board for board in committed()}
QUERIES = [query for board in BOARDS.values() for query in queries(board)]
ENGINE_QUERIES = list(queries(BOARDS["hisparse-engine"]))
MARKS = [(board, mark) for board in BOARDS.values() for mark in board["annotations"]["list"]]
RUNBOOK_QUERIES = [
    pytest.param(expr, id=f"{path.stem}-{expr}")
    for path in sorted((ROOT / "docs/runbooks").glob("*.md"))
    for expr in promql_blocks(path.read_text())
]
each_query = pytest.mark.parametrize("query", QUERIES, ids=str)
each_kind = pytest.mark.parametrize("kind", JOBS)

PAGES_ALONE = {
    "Hit ratio now", "Verify mismatches since start", "Invariant violations since start", "Youngest engine runs for",
    "Index keys", "Index keys used and promised", "Hit ratio / hits / lookups", "Rows looked up, found, fetched, evicted",
    "Swap-in and backup bandwidth / host to device (swap-in)",
    "Swap-in and backup bandwidth / device to host (backup, staging)",
    "Swap-in and backup bandwidth / limit of the links", "Busiest link", "Decode step", "Swap-in time per step",
    "Swap-in's share of a step", "Decode steps", "Requests / staging", "Requests by outcome", "Time to first token",
    "Inter-token latency", "Request duration", "Time to first token, distribution", "Inter-token latency, distribution",
    "Decode step, distribution", "Verify checks", "What runs here", "Stats pages skipped",
    "Host tokens kept for reuse", "Device tokens / of it spare, given back on demand",
}  # fmt: skip
LOGS_ALONE = {
    "Throughput as logged (SGLang)", "Failures in the log (SGLang)", "Starts and crashes in the log (SGLang)",
    "Pools without a split (SGLang)", "Tokens in pools without a split (SGLang)", "Unreadable sources",
    "Oldest last record", "Bytes behind", "State file failures", "Ranks seen", "Sources",
    "What each log tells of its engine", "Age of the last record", "Lines by outcome", "Not understood", "Bytes read",
    "Bytes behind by source", "Sources that can be read", "Firing alerts",
}  # fmt: skip
"""Also the alerts: SGLang's log tells of failed host allocations, which is an alert at once."""
VLLM_ALONE = {
    "Device cache usage (vLLM)", "Host cache usage (vLLM)", "Engines / Device cache", "Engines / Host cache", "Pages that wait for the host (vLLM)",
    "Hit ratio / {{instance}} {{engine_name}} dp {{dp_rank}}",
    "Swap-in and backup bandwidth / host to device, vLLM (10m)",
}  # fmt: skip
DEVICE_POOLS = {
    "Most committed device pool", "Device tokens", "Device token usage", "Engines / Device", "Engines / Committed",
}  # fmt: skip
HITS = {
    "Lowest hit ratio", "Hit ratio by engine", "Engines / Hit ratio", "Swap-in misses by engine", "Link used by swap-in",
}  # fmt: skip
SILENT: dict[str, set[str]] = {
    "hisparse": LOGS_ALONE | VLLM_ALONE,
    "sglang": PAGES_ALONE | VLLM_ALONE | HITS,
    "vllm": PAGES_ALONE | LOGS_ALONE | DEVICE_POOLS | {
        "Time since the last step", "Refused for lack of host slots", "Refused and retracted / refused",
        "Prompt tokens reused", "Down / exporters", "Targets down", "Host tokens",
    },
}  # fmt: skip
"""Kind of engine → what is empty when only its job is chosen: a panel, or a line or column as "panel / legend". vLLM's job
is not called as exporters' jobs are, so it is not counted among them."""


@pytest.fixture(scope="module")
def all_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moment]:
    """All engines under load."""
    with three_engines.running(tmp_path_factory.mktemp("three")) as moment:
        yield moment


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moment]:
    """One resident engine without work."""
    pages = tmp_path_factory.mktemp("idle")
    with (
        Recorder(pages, EngineIdentity(mode="resident")) as recorder,
        Exporter(PageCollector(PageFolder(pages)), port=0) as exporter,
        PrometheusServer([f"127.0.0.1:{exporter.port}"], RULES, SCRAPE_INTERVAL) as prometheus,
    ):
        recorder.publish(fake_engine.idle_resident_step(time.time()))
        quiet = f"min_over_time(up[4s]) == 1 and count_over_time(up[{RATE_INTERVAL}]) >= 4"
        yield Moment.of(prometheus, f"{quiet} and on () hisparse:engine_up:bool")


def ask(moment: Moment, expr: str, **chosen: str) -> list[Sample]:
    return moment.query(filled_in(expr, RATE_INTERVAL, chosen))


def ask_panel(moment: Moment, uid: str, panel: str, **chosen: str) -> dict[str, float]:
    """Legend → value, of a panel whose targets have one series each, or none."""
    found = [query for query in queries(BOARDS[uid]) if query.panel == panel]
    answers = {query.legend: ask(moment, query.expr, **chosen) for query in found}
    return {legend: samples[0].value for legend, samples in answers.items() if samples}


def is_in(query: Query, names: set[str]) -> bool:
    return bool({query.panel, f"{query.panel} / {query.legend}"} & names)


# --- all three at once ---


@each_query
def test_query_has_a_finite_answer_with_everything_chosen(all_three: Moment, query: Query) -> None:
    samples = ask(all_three, query.expr)
    assert samples, query.expr
    assert all(math.isfinite(sample.value) for sample in samples), samples


@each_query
def test_the_legend_is_made_of_labels_that_are_there(all_three: Moment, query: Query) -> None:
    for sample in ask(all_three, query.expr):
        assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= sample.labels.keys(), query


@each_kind
@each_query
def test_query_about_one_kind_of_engine(all_three: Moment, query: Query, kind: str) -> None:
    samples = ask(all_three, query.expr, job=JOBS[kind], engine=kind)
    assert bool(samples) != is_in(query, SILENT[kind]), (query.expr, samples)
    assert all(sample.labels.get("engine", kind) == kind for sample in samples)
    assert all(sample.labels.get("job", JOBS[kind]) == JOBS[kind] for sample in samples)


@pytest.mark.parametrize(("board", "mark"), MARKS, ids=lambda part: part.get("name", part.get("uid")))
def test_mark_is_valid_and_its_title_is_there(all_three: Moment, board: Json, mark: Json) -> None:
    samples = ask(all_three, mark["target"]["expr"])
    assert bool(samples) is (mark["name"] != "Engine down"), "nobody is down"
    for sample in samples:
        assert set(re.findall(r"\{\{(\w+)\}\}", mark["titleFormat"])) <= sample.labels.keys()
        if mark.get("useValueForTime"):
            assert abs(sample.value / 1000 - time.time()) < 300, "milliseconds of a moment just past"


@pytest.mark.parametrize("uid", BOARDS)
def test_variables_offer_what_there_is(all_three: Moment, uid: str) -> None:
    offered = {name: offers(all_three, variable) for name, variable in variables(BOARDS[uid]).items()
               if variable["type"] == "query"}  # fmt: skip
    expected: dict[str, object] = {
        "engine": ["hisparse", "sglang", "vllm"],
        "job": sorted(JOBS.values()),
        "engine_name": ["hisparse", "sglang", "vllm"],
        "model_name": ["deepseek-v3.2", "glm-5", "tiny"],
        "dp_rank": ["0", "1", "2"],
        "pp_rank": ["0"], "tp_rank": ["0"], "ep_rank": ["0"],
    }  # fmt: skip
    if uid == "hisparse-sidecar":
        expected["job"] = ["hisparse", "hisparse-sidecar"]
    assert len(offered["instance"]) == (2 if uid == "hisparse-sidecar" else 2 + len(VLLM))
    for name, values in offered.items():
        assert values == expected.get(name, values), name
        assert values


def offers(moment: Moment, variable: Json, **chosen: str) -> Any:
    match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
    assert match
    return moment.prometheus.api(
        f"label/{match[2]}/values", **{"match[]": filled_in(match[1], RATE_INTERVAL, chosen)}
    )


def test_a_choice_narrows_the_variables_after_it(all_three: Moment) -> None:
    engine = variables(BOARDS["hisparse-engine"])
    assert offers(all_three, engine["model_name"], engine="sglang") == ["glm-5"]
    assert offers(all_three, engine["dp_rank"], engine="hisparse") == ["0", "1"]


# --- single choices and numbers ---


def ours(moment: Moment, panel: str, **chosen: str) -> dict[str, float]:
    return ask_panel(moment, "hisparse-engine", panel, **{"job": "hisparse", "engine": "hisparse", **chosen})


def test_the_panels_show_the_numbers_of_the_engine(all_three: Moment) -> None:
    device = {"device tokens": 1_600, "of it spare, given back on demand": 600, "capacity": 2_000}
    assert ours(all_three, "Device tokens") == device
    host = ours(all_three, "Host tokens")
    assert host["capacity"] == 20_000
    assert host["host tokens"] > 10_000
    assert host["with reserved"] == pytest.approx(host["host tokens"] + 2_000, abs=100)
    assert ours(all_three, "Requests") == {"running": 8, "staging": 2, "waiting": 4}
    assert ours(all_three, "Hit ratio now") == {"hits": pytest.approx(0.9)}
    assert ours(all_three, "Most committed device pool") == {"committed": 0.5}
    assert ours(all_three, "Down") == {"engines": 0, "exporters": 0}
    assert ours(all_three, "Stalled") == {"engines": 0}
    assert 0 <= ours(all_three, "Time since the last step")["silent for"] < 5
    assert ours(all_three, "Swap-in's share of a step") == {"swap-in / step": pytest.approx(0.0015 / 0.012)}


def test_one_rank_can_be_chosen(all_three: Moment) -> None:
    assert ours(all_three, "Requests", dp_rank="1") == {"running": 4, "staging": 1, "waiting": 2}
    [limit] = [query for query in ENGINE_QUERIES if query.legend == "limit of the links"]
    assert [sample.value for sample in ask(all_three, limit.expr, dp_rank="0")] == [
        DEFAULT.link_bytes_per_second
    ]


def test_rates_agree_with_each_other(all_three: Moment) -> None:
    def rates(panel: str) -> dict[str, float]:
        chosen = {"job": "hisparse", "engine": "hisparse"}
        found = [query for query in ENGINE_QUERIES if query.panel == panel and "vLLM" not in query.legend]
        return {q.legend: all_three.query(filled_in(q.expr, RATE_INTERVAL, chosen))[0].value for q in found}

    rate = rates("Throughput") | rates("Swap-in and backup bandwidth")
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
        ("Request duration", 1, 2),
    ],
)
def test_quantiles_lie_in_the_bucket_of_what_was_observed(
    all_three: Moment, panel: str, low: float, high: float
) -> None:
    quantiles = ours(all_three, panel)
    assert list(quantiles) == ["p50", "p95", "p99"]
    assert low <= quantiles["p50"] <= quantiles["p95"] <= quantiles["p99"] <= high


def test_a_heatmap_has_what_was_observed_in_one_bucket(all_three: Moment) -> None:
    [query] = [query for query in ENGINE_QUERIES if query.panel == "Decode step, distribution"]
    by_bound = {float(s.labels["le"]): s.value for s in ask(all_three, query.expr)}
    assert [by_bound[0.01], by_bound[0.015]] == [0, by_bound[math.inf]]


def test_the_log_and_vllm_are_shown_as_they_say(all_three: Moment) -> None:
    log = {"job": JOBS["sglang"], "engine": "sglang"}
    device = ask_panel(all_three, "hisparse-engine", "Device tokens", **log)
    assert device["device tokens"] == 2 * growing_log.DEVICE_TOKENS
    host = ask_panel(all_three, "hisparse-engine", "Host tokens", **log)
    assert host["capacity"] == pytest.approx(2 * growing_log.HOST_CAPACITY, rel=0.01)
    usage = {query.panel: query.expr for query in queries(BOARDS["hisparse-overview"])}
    # Revision A tells what is truly used; B and C count what could be evicted as used.
    assert len(ask(all_three, usage["Host token usage"], engine="vllm")) == 1
    assert len(ask(all_three, usage["Host cache usage (vLLM)"])) == 2
    hits = {s.labels["instance"]: s.value for query in ENGINE_QUERIES if query.panel == "Hit ratio"
            for s in ask(all_three, query.expr, job=JOBS["vllm"]) if s.labels}  # fmt: skip
    assert min(round(value, 2) for value in hits.values()) == 0.8
    assert len(hits) == len(VLLM)


def test_full_first_names_the_engine_that_is_full_first(all_three: Moment) -> None:
    queries_of = {query.panel: query.expr for query in queries(BOARDS["hisparse-overview"])}
    [first] = ask(all_three, queries_of["Full first, and in how long"])
    every = ask(all_three, queries_of["Time until the host pool is full"])
    soonest = min(every, key=lambda sample: sample.value)
    assert first.labels == soonest.labels
    assert {"instance", "engine_name"} <= first.labels.keys()


# --- tables, put together by Grafana's own code ---


def table(
    moment: Moment, uid: str, title: str, **chosen: str
) -> tuple[list[str], list[dict[str, Any]], list[Json]]:
    """Return a table's titles, its rows by title, and what a link of each row can use."""
    [panel] = [
        panel for panel in BOARDS[uid]["panels"] if (panel["type"], panel["title"]) == ("table", title)
    ]
    answers = {target["refId"]: ask(moment, target["expr"], **chosen) for target in panel["targets"]}
    frames = [
        frame(ref_id, "Value" if len(answers) == 1 else f"Value #{ref_id}", samples)
        for ref_id, samples in answers.items()
    ]
    work = json.dumps({"transformations": panel["transformations"], "frames": frames})
    command = ["node", TRANSFORM, require_packages(TRANSFORM.parent)]
    done = subprocess.run(command, input=work, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    [made] = json.loads(done.stdout)
    return (
        made["titles"],
        [dict(zip(made["titles"], row, strict=True)) for row in made["rows"]],
        made["linked"],
    )


def frame(ref_id: str, value: str, samples: list[Sample]) -> Json:
    """Return the answer to an instant query as the Prometheus data source makes a table of it."""
    labels = sorted({name for sample in samples for name in sample.labels})
    columns: dict[str, list[object]] = {"Time": [1_700_000_000_000 for _ in samples]}
    columns |= {name: [sample.labels.get(name, "") for sample in samples] for name in labels}
    columns[value] = [sample.value for sample in samples]
    return {"refId": ref_id, "columns": columns if samples else {}}


def test_the_table_of_engines_has_one_whole_row_for_each(all_three: Moment) -> None:
    titles, rows, linked = table(all_three, "hisparse-overview", "Engines")
    assert titles == [
        "Kind", "Job", "Instance", "Engine", "Model", "DP rank", "State", "Host", "Full in", "Device", "Committed",
        "Device cache", "Host cache", "Hit ratio", "Tokens/s", "Running", "Waiting",
    ]  # fmt: skip
    of = {kind: [row for row in rows if row["Kind"] == kind] for kind in JOBS}
    assert {kind: len(found) for kind, found in of.items()} == {"hisparse": 2, "sglang": 3, "vllm": 4}
    assert all(row["State"] == 2 for row in rows), "all are working"
    assert [row["Hit ratio"] for row in of["sglang"]] == [None] * 3
    assert [row["Device"] for row in of["vllm"]] == [None] * 4
    assert all(row["Device cache"] is not None for row in of["vllm"])
    assert [row["Device cache"] for row in of["hisparse"] + of["sglang"]] == [None] * 5
    without_split = next(row for row in of["sglang"] if row["DP rank"] == "2")
    assert (without_split["Host"], without_split["Running"]) == (None, 5)
    [first, *_] = of["hisparse"]
    assert (first["Running"], first["Waiting"], first["Device"], first["Committed"]) == (4, 2, 0.8, 0.5)
    labels = ("engine", "job", "instance", "engine_name", "dp_rank")
    assert len({tuple(link[label] for label in labels) for link in linked}) == len(rows), (
        "each row leads to one engine"
    )
    assert all(link[label] for link in linked for label in labels)


@pytest.mark.parametrize("kind", JOBS)
def test_the_table_stays_whole_when_columns_are_empty(all_three: Moment, kind: str) -> None:
    _, rows, _ = table(all_three, "hisparse-overview", "Engines", job=JOBS[kind], engine=kind)
    assert len(rows) == {"hisparse": 2, "sglang": 3, "vllm": 4}[kind]


def test_the_other_tables(all_three: Moment) -> None:
    _, alerts, _ = table(all_three, "hisparse-overview", "Firing alerts")
    assert {(row["Alert"], row["Severity"], row["Firing"]) for row in alerts} >= {
        ("HiSparseHostPoolFull", "critical", 1)
    }
    _, [source], _ = table(all_three, "hisparse-sidecar", "Sources")
    assert source["Source"].endswith("sglang.log")
    assert (source["Readable"], source["State"], source["Ranks"]) == (1, 0, 3)
    assert source["Parsed lines/s"] > 0
    _, engines, _ = table(all_three, "hisparse-engine", "What runs here")
    assert [(row["Mode"], row["DP rank"]) for row in engines] == [
        ("hierarchical", "0"),
        ("hierarchical", "1"),
    ]
    assert all(abs(row["Started"] / 1000 - time.time()) < 300 for row in engines)


# --- idle ---

EMPTY_WHEN_IDLE_AND_RESIDENT = {
    "Fullest host pool", "Host pool full in", "Host token usage", "Host pool used and promised",
    "Time until the host pool is full", "Hit ratio now", "Hit ratio", "Time since the last step",
    "Swap-in's share of a step", "Prompt tokens reused", "Host tokens / with reserved",
    "Index keys used and promised",
} | LOGS_ALONE | VLLM_ALONE  # fmt: skip
NAN_WHEN_IDLE = {
    "Time to first token", "Inter-token latency", "Decode step", "Swap-in time per step", "Request duration",
}  # fmt: skip


@pytest.mark.parametrize("query", ENGINE_QUERIES, ids=str)
def test_query_of_an_idle_resident_engine_tells_null_from_zero(idle: Moment, query: Query) -> None:
    values = [sample.value for sample in ask(idle, query.expr)]
    if is_in(query, EMPTY_WHEN_IDLE_AND_RESIDENT):
        assert values == []
    elif query.panel in NAN_WHEN_IDLE:
        assert all(math.isnan(value) for value in values)
    else:
        assert values
        assert all(math.isfinite(value) for value in values)


# --- runbooks, rules, exposition ---


@pytest.mark.parametrize("expr", RUNBOOK_QUERIES)
def test_runbook_query_is_valid(all_three: Moment, expr: str) -> None:
    all_three.query(expr)


def test_rules_are_healthy_and_every_recorded_series_has_data(all_three: Moment) -> None:
    groups = all_three.prometheus.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 15
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    for rule in rules:
        if rule["type"] == "recording":
            engine = rule.get("labels", {}).get("engine")
            assert all_three.query(f'{rule["name"]}{{engine="{engine}"}}' if engine else rule["name"]), rule[
                "name"
            ]


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
