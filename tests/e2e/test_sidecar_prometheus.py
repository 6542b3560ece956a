"""A real Prometheus scrapes a replay of real lines, and its queries give the labels' values at their times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Metric
from tests.support.programs import promtool
from tests.support.prometheus import PrometheusServer
from tests.unit.sidecar.process import Sidecar

SAMPLE = Path(__file__).parents[1] / "data/sglang_sample.jsonl"
SPACING_S = 2
COUNT = 8
STAMP = re.compile(r"\[\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")
METRICS: dict[str, Metric] = {
    "device_tokens": catalogue.DEVICE_TOKENS,
    "device_token_usage": catalogue.DEVICE_TOKEN_USAGE,
    "host_tokens": catalogue.HOST_TOKENS,
    "host_token_usage": catalogue.HOST_TOKEN_USAGE,
    "running_requests": catalogue.RUNNING_REQUESTS,
    "waiting_requests": catalogue.WAITING_REQUESTS,
}
RANKS = ("dp_rank", "pp_rank", "tp_rank", "ep_rank")
LAST = catalogue.SOURCE_LAST_SAMPLE_TIMESTAMP_SECONDS.name


def labelled() -> list[tuple[str, dict[str, Any]]]:
    """Return real lines with the split and what they say, two seconds apart."""
    rows = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    bare = [row for row in rows if row["kind"] in ("real", "formatter") and STAMP.match(row["line"])]
    split = [row for row in bare if "host_tokens" in (row["expected"] or {})][:COUNT]
    times = [f"[2026-04-08 14:00:{SPACING_S * index:02}" for index in range(COUNT)]
    return [(STAMP.sub(time, row["line"]), row["expected"]) for time, row in zip(times, split, strict=True)]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrometheusServer, Sidecar]]:
    log = tmp_path_factory.mktemp("replay") / "night.log"
    lines = [line for line, _ in labelled()]
    begin, end = (
        "[2026-04-08 13:59:54] The server is fired up and ready to roll!",
        STAMP.sub("[2026-04-08 14:00:18", lines[-1]),
    )
    log.write_text("\n".join([begin, *lines, end]) + "\n")
    sidecar = Sidecar("replay", log, "--model", "glm-5", "--speed", "1")
    with sidecar, PrometheusServer([sidecar.address], scrape_interval="200ms") as prometheus:
        prometheus.wait_for(f"changes({LAST}[1m]) >= {COUNT}", timeout=60)
        yield prometheus, sidecar


def test_queries_match_the_labels_at_their_times(replayed: tuple[PrometheusServer, Sidecar]) -> None:
    prometheus, _ = replayed
    now = prometheus.query("time()")[0].value
    [series] = prometheus.query_range(LAST, now - 55, now, "200ms")
    moments = sorted({value for _, value in series.points})[-COUNT - 1 : -1]
    assert len(moments) == COUNT
    for moment, (line, expected) in zip(moments, labelled(), strict=True):
        matchers = ", ".join(f'{rank}="{expected.get(rank, 0)}"' for rank in RANKS)
        for name, metric in METRICS.items():
            found = prometheus.query(f'{metric}{{model_name="glm-5", {matchers}}}', moment + 0.75 * SPACING_S)
            assert expected[name] in [sample.value for sample in found], (line, name)


def test_the_exposition_passes_promtool(replayed: tuple[PrometheusServer, Sidecar]) -> None:
    done = promtool("check", "metrics", stdin=replayed[1].scrape())
    assert (done.stdout, done.stderr) == ("", "")
