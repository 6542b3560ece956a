from __future__ import annotations

import json
import time

import pytest

from hisparse_metrics.decode_log import LogFormat, parse, render
from hisparse_metrics.stats import Levels, StepStats, Totals

LINE = (
    "[2026-11-22 10:00:00] Decode batch, #running-req: 3, #gpu-token: 20800, gpu token usage: 0.29, "
    "#cpu-token: 41422, cpu token usage: 0.29, gen throughput (token/s): 71.3, #queue-req: 0"
)
LEVELS = Levels(
    device_tokens=20800, device_token_capacity=71724, host_tokens=41422, host_token_capacity=142834,
    running_requests=3,
)  # fmt: skip
STEP = StepStats(1795341600.25, True, LEVELS, Totals())


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_split_line_is_exactly_the_documented_one() -> None:
    assert render(STEP, 71.3) == LINE


def test_legacy_line_shows_the_single_old_figure() -> None:
    assert render(STEP, 71.3, LogFormat.LEGACY) == (
        "[2026-11-22 10:00:00] Decode batch, #running-req: 3, #token: 20800, token usage: 0.29, "
        "gen throughput (token/s): 71.3, #queue-req: 0"
    )


def test_resident_mode_prints_the_single_figure_in_the_split_format_too() -> None:
    resident = STEP._replace(is_hisparse=False)
    assert render(resident, 71.3) == render(STEP, 71.3, LogFormat.LEGACY)


def test_json_line_has_full_precision() -> None:
    line = render(STEP, 71.25, LogFormat.JSON)
    assert "\n" not in line
    assert json.loads(line) == {
        "timestamp": 1795341600.25,
        "is_hisparse": True,
        "running_requests": 3,
        "device_tokens": 20800,
        "device_token_usage": 20800 / 71724,
        "host_tokens": 41422,
        "host_token_usage": 41422 / 142834,
        "generation_throughput": 71.25,
        "waiting_requests": 0,
    }


def test_line_parses_to_what_it_says() -> None:
    record = parse(LINE + "\n")
    assert record is not None
    assert (record.timestamp, record.running_requests, record.waiting_requests) == (1795341600.0, 3, 0)
    assert (record.generation_throughput, record.unknown_fields) == (71.3, 0)
    pool = record.pool
    assert pool.is_hisparse
    assert (pool.hisparse_device_tokens, pool.hisparse_device_token_usage) == (20800, 0.29)
    assert (pool.hisparse_host_tokens, pool.hisparse_host_token_usage) == (41422, 0.29)
    assert (pool.tokens, pool.token_usage) == (20800, 0.29)


def test_json_parses_to_the_very_pool_that_made_it() -> None:
    for step in (STEP, STEP._replace(is_hisparse=False)):
        record = parse(render(step, 71.25, LogFormat.JSON))
        assert record is not None
        assert (record.timestamp, record.pool) == (step.timestamp, step.pool)
        assert (record.generation_throughput, record.unknown_fields) == (71.25, 0)


def test_unknown_fields_are_skipped_and_counted() -> None:
    line = LINE.replace(", gen", ", accept len: 2.10, cuda graph: True, gen") + ", "
    record = parse(line)
    assert record is not None
    assert record.unknown_fields == 3
    assert record.pool == getattr(parse(LINE), "pool", None)


def test_time_is_optional_and_what_stands_before_it_does_not_matter() -> None:
    assert getattr(parse("noise [x] " + LINE), "timestamp", None) == 1795341600.0
    record = parse(LINE.partition("] ")[2])
    assert record is not None
    assert record.timestamp is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "[2026-11-22 10:00:00] Prefill batch, #new-seq: 1",
        LINE.partition(", #queue")[0],
        LINE.replace("gpu token usage: 0.29", "gpu token usage: 0.2"),
        LINE.replace("20800", "20 800"),
        LINE.replace("20800", "-1"),
        LINE.replace("71.3", "nan"),
        LINE.replace("#cpu-token: 41422, ", ""),
        LINE.replace("#running-req: 3", "#running-req: ٣"),
        LINE + ", #queue-req: 5",
        LINE + " " * 70000,
        "{}",
        "{" * 5000,
        "[]",
        '{"timestamp": 1}',
        render(STEP, 1.0, LogFormat.JSON)[:-5],
        render(STEP, 1.0, LogFormat.JSON).replace("20800", '"20800"'),
        render(STEP, 1.0, LogFormat.JSON).replace("20800", "NaN"),
        render(STEP, 1.0, LogFormat.JSON).replace("20800", "true"),
        render(STEP, 1.0, LogFormat.JSON).replace("true", "1"),
    ],
)
def test_what_is_not_a_whole_decode_line_is_no_record(line: str) -> None:
    assert parse(line) is None


def test_a_hostile_line_costs_linear_time() -> None:
    started = time.perf_counter()
    for line in (", " * 32000, "Decode batch, " * 4600, "[" * 65000 + "Decode batch, ", "#token: 1, " * 5900):
        parse("Decode batch, " + line)
    assert time.perf_counter() - started < 1.0
