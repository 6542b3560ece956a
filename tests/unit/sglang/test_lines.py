from __future__ import annotations

import time

import pytest

from hisparse_metrics.decode_log import LogFormat, render
from hisparse_metrics.sglang import LogParser, Record
from hisparse_metrics.sglang.scan import MAX_RECORDS
from hisparse_metrics.sglang.shapes import MAX_SHAPES
from hisparse_metrics.stats import Levels, StepStats, Totals

TAIL = "#token: 20800, token usage: 0.29, cuda graph: True, gen throughput (token/s): 153.75, #queue-req: "
FIRST = f"[2026-04-08 14:09:56 TP0] Decode batch, #running-req: 5, {TAIL}12"
SECOND = f"[2026-04-08 14:09:57 TP1] Decode batch, #running-req: 6, {TAIL}34"
STEP = StepStats(
    1795341600.25,
    True,
    Levels(device_tokens=20800, device_token_capacity=71724, host_tokens=41422, host_token_capacity=142834),
    Totals(),
)


def records(line: str) -> list[Record]:
    return [found for found in LogParser().feed(line) if isinstance(found, Record)]


def brief(line: str) -> list[tuple[object, ...]]:
    return [
        (r.values.get("tp_rank"), r.values["running_requests"], r.values["waiting_requests"])
        for r in records(line)
    ]


def test_two_records_on_a_line_are_two() -> None:
    for between in ("", " ", ", ", "\r"):
        assert brief(FIRST + between + SECOND) == [(0, 5, 12), (1, 6, 34)]


@pytest.mark.parametrize(
    "prefix", ["2026-04-08 14:09:57 INFO 31223 [TP1 scheduler.py:2] ", "(A pid=4182) [TP1] ", "[TP1] "]
)
def test_any_prefix_ends_the_record_before_it(prefix: str) -> None:
    assert brief(FIRST + prefix + SECOND.partition("] ")[2]) == [(0, 5, 12), (1, 6, 34)]


def test_a_record_spliced_into_another_leaves_only_itself() -> None:
    for cut in range(FIRST.index("batch"), len(FIRST) - 1):
        assert brief(FIRST[:cut] + SECOND) in ([(1, 6, 34)], [(0, 5, 1), (1, 6, 34)]), FIRST[:cut]


def test_another_message_behind_a_record_does_not_belong_to_it() -> None:
    assert brief(FIRST + '[2026-04-08 14:09:56] INFO: 127.0.0.1:52024 - "GET /metrics"') == [(0, 5, 12)]
    assert brief(FIRST + " INFO: 127.0.0.1:52024") == []


def test_records_without_prefix_are_read() -> None:
    bare = FIRST.partition("] ")[2]

    assert brief(bare) == [(None, 5, 12)]
    assert brief(bare + bare) == [(None, 5, 12), (None, 5, 12)]


def test_iteration_behind_batch_is_skipped() -> None:
    assert records(FIRST.replace("batch,", "batch [51341],")) == records(FIRST)
    assert records(FIRST.replace("batch,", "batch [x],")) == []


@pytest.fixture
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.usefixtures("_utc")
def test_our_own_log_is_read() -> None:
    split: dict[str, object] = {
        "phase": "decode", "running_requests": 0, "waiting_requests": 0, "generation_throughput": 71.3,
        "device_tokens": 20800, "device_token_usage": 0.29, "host_tokens": 41422, "host_token_usage": 0.29,
    }  # fmt: skip
    single = {key: value for key, value in split.items() if "device" not in key and "host" not in key}
    single |= {"tokens": 20800, "token_usage": 0.29}
    stamp = {"date": "2026-11-22", "time": "10:00:00"}

    assert [r.values for r in records(render(STEP, 71.3))] == [split | stamp]
    assert [r.values for r in records(render(STEP, 71.3, LogFormat.LEGACY))] == [single | stamp]
    assert [r.values for r in records(render(replace_resident(STEP), 71.3))] == [single | stamp]


def replace_resident(step: StepStats) -> StepStats:
    return step._replace(is_hisparse=False)


def test_our_own_json_log_is_read() -> None:
    (record,) = records(render(STEP, 71.25, LogFormat.JSON))

    assert record.values["timestamp"] == STEP.timestamp
    assert record.values["generation_throughput"] == 71.25
    assert record.values["host_tokens"] == 41422
    assert record.values["host_token_usage"] == 41422 / 142834


def test_a_rate_of_one_decimal_is_ours_alone() -> None:
    assert records(FIRST.replace("153.75", "153.7")) == []


def test_known_shapes_are_bounded_and_lines_of_other_shapes_are_still_read() -> None:
    parser = LogParser()
    backends = ("cuda", "cpu", "npu", "musa")
    ranks = [" ".join(f"{name}{n}" for name in ("DP", "TP", "EP", "PP")[:n]) for n in range(1, 5)]
    lines = [
        FIRST.replace("cuda", backend).replace("TP0", rank).replace("12", "12" + end)
        for backend in backends for rank in ranks for end in ("", ",")
    ]  # fmt: skip
    assert len(lines) > MAX_SHAPES

    first = [parser.feed(line)[0].values for line in lines]
    again = [parser.feed(line)[0].values for line in lines]

    assert first == again == [LogParser().feed(line)[0].values for line in lines]


def test_values_of_one_line_are_not_shared_with_the_next() -> None:
    parser = LogParser()
    found = [parser.feed(line)[0] for line in (FIRST, FIRST, SECOND)]

    assert found[0].values == found[1].values
    assert found[0].values is not found[1].values
    assert found[2].values["running_requests"] == 6


def test_records_of_a_line_are_bounded() -> None:
    assert len(records(FIRST * (2 * MAX_RECORDS))) == MAX_RECORDS
