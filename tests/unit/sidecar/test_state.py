from __future__ import annotations

import pytest

from hisparse_metrics import catalogue
from hisparse_metrics.follow.source import LineBatch
from hisparse_metrics.metric import Metric
from hisparse_metrics.sidecar import log_state, state
from hisparse_metrics.sidecar.state import SidecarState
from tests.unit.sidecar.support import (
    ACCESS,
    CRASH,
    LOG,
    NO_DEVICE,
    NO_HOST,
    READY,
    RETRACT,
    SYNC,
    batch,
    decode,
    fed,
    prefill,
    scrape,
)  # fmt: skip


def test_a_decode_record_sets_the_split() -> None:
    seen = scrape(fed(decode()))
    assert seen.values("hisparse_host_tokens") == [41422]
    assert seen.values("hisparse_host_token_usage") == [0.29]
    assert seen.values("hisparse_device_tokens") == [20800]
    assert seen.values("hisparse_device_token_usage") == [0.29]
    assert seen.values("hisparse_running_requests") == [5]
    assert seen.values("hisparse_generation_tokens_per_second") == [153.75]


def test_a_record_without_a_split_sets_its_own_pool_and_never_the_split() -> None:
    line = "[2026-04-08 14:05:21 TP0] Decode batch, #running-req: 5, #token: 20800, token usage: 0.29, "
    seen = scrape(fed(line + "cuda graph: True, gen throughput (token/s): 144.95, #queue-req: 0"))
    assert seen.values("hisparse_pool_tokens", pool="single") == [20800]
    assert seen.values("hisparse_pool_token_usage", pool="single") == [0.29]
    assert not {"hisparse_device_tokens", "hisparse_host_tokens"} & seen.names()


def test_a_newer_record_without_the_split_ends_it() -> None:
    line = "[2026-04-08 14:05:21 TP0] Decode batch, #running-req: 5, #token: 20800, token usage: 0.29, "
    plain = line + "cuda graph: True, gen throughput (token/s): 144.95, #queue-req: 0"
    assert "hisparse_host_tokens" not in scrape(fed(decode(), plain)).names()


@pytest.mark.parametrize(
    ("lines", "metric", "count"),
    [
        ([prefill(100, 7), prefill(50, 3)], catalogue.PROMPT_TOKENS, 150),
        ([prefill(100, 7), prefill(50, 3)], catalogue.PREFIX_HIT_TOKENS, 10),
        ([RETRACT, RETRACT], catalogue.RETRACTIONS, 6),
        ([NO_HOST], catalogue.HOST_ALLOCATION_FAILURES, 1),
        ([NO_DEVICE, NO_DEVICE], catalogue.DEVICE_ALLOCATION_FAILURES, 2),
        ([SYNC], catalogue.SYNCHRONOUS_SWAP_INS, 1),
        ([READY, READY], catalogue.ENGINE_STARTS, 2),
        ([CRASH, CRASH], catalogue.ENGINE_CRASHES, 1),
        ([CRASH, READY, CRASH], catalogue.ENGINE_CRASHES, 2),
        ([decode()], catalogue.ENGINE_CRASHES, 0),
    ],
)
def test_lines_move_counters(lines: list[str], metric: Metric, count: int) -> None:
    assert scrape(fed(*lines)).values(metric.name) == [count]


def test_line_outcomes_are_counted() -> None:
    seen = scrape(fed(decode(), ACCESS, prefill(), decode()[:100]))
    outcomes = {
        o: seen.values("hisparse_source_lines_total", outcome=o) for o in ("parsed", "ignored", "malformed")
    }
    assert outcomes == {"parsed": [2], "ignored": [1], "malformed": [1]}


def test_a_cut_line_is_malformed_and_sets_nothing() -> None:
    fresh = SidecarState()
    fresh.take(LineBatch(LOG, "1", [decode().encode()], cut=(0,)), 1000.0)
    seen = scrape(fresh)
    assert seen.values("hisparse_source_lines_total", outcome="malformed") == [1]
    assert "hisparse_host_tokens" not in seen.names()


def test_unknown_fields_are_counted() -> None:
    line = decode().replace(", cuda graph", ", #warp-req: 9, cuda graph")
    assert scrape(fed(line)).values("hisparse_source_unknown_fields_total") == [1]


def test_ranks_and_logs_never_overwrite_each_other() -> None:
    fresh = SidecarState()
    fresh.take(
        batch(decode(1, ranks=" DP0 TP0"), decode(2, ranks=" DP1 TP1"), decode(3, ranks=" PP1 TP0")), 1000.0
    )
    fresh.take(batch(decode(4, ranks=" DP0 TP0"), source="/b.log"), 1000.0)
    assert sorted(scrape(fresh).values("hisparse_host_tokens")) == [1, 2, 3, 4]
    assert scrape(fresh).values("hisparse_host_tokens", dp_rank="1", tp_rank="1") == [2]
    assert scrape(fresh).values("hisparse_host_tokens", source="/b.log") == [4]


def test_ranks_beyond_the_limit_are_counted_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_state, "MAX_RANKS", 2)
    seen = scrape(fed(*(decode(ranks=f" TP{rank}") for rank in range(5))))
    assert len(seen.values("hisparse_host_tokens")) == 2
    assert seen.values("hisparse_source_refused_records_total") == [3]
    assert seen.values("hisparse_source_ranks") == [2]


def test_a_rank_that_is_long_gone_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_state, "MAX_RANKS", 2)
    full = fed(decode(1, ranks=" TP0"), decode(2, ranks=" TP1"))
    later = 1000.0 + 2 * log_state.FORGET_AFTER_SECONDS
    full.take(batch(decode(2, ranks=" TP1"), decode(9, ranks=" TP7")), later)
    assert sorted(scrape(full, later).values("hisparse_host_tokens")) == [2, 9]


def test_the_quietest_log_makes_room_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_LOGS", 2)
    full = SidecarState()
    for time, name in enumerate(["/a", "/b", "/c"], start=1000):
        full.take(batch(decode(), source=name), float(time))
    assert set(full.logs) == {"/b", "/c"}


def test_a_restart_forgets_levels_and_pools_and_keeps_counters() -> None:
    before = [decode(90_000, "0.90"), prefill(100)]
    assert scrape(fed(*before)).values("hisparse_host_token_capacity") == [pytest.approx(100_000, rel=0.01)]
    seen = scrape(fed(*before, READY))
    assert not {"hisparse_host_tokens", "hisparse_host_token_capacity"} & seen.names()
    assert seen.values("hisparse_prompt_tokens_total") == [100]


def test_a_new_stream_of_the_same_log_does_not_continue_the_old_one() -> None:
    """Half a CRI line before a truncation must not be joined with what comes after it."""
    head, tail = decode()[:90], decode()[90:]
    fresh = SidecarState()
    fresh.take(batch(f"2026-08-23T09:10:52.123456789Z stderr P {head}", stream="1"), 1000.0)
    fresh.take(batch(f"2026-08-23T09:10:52.123456789Z stderr F {tail}", stream="2"), 1000.0)
    assert "hisparse_host_tokens" not in scrape(fresh).names()
    fresh.take(batch(f"2026-08-23T09:10:52.123456789Z stderr P {head}", stream="2"), 1000.0)
    fresh.take(batch(f"2026-08-23T09:10:52.123456789Z stderr F {tail}", stream="2"), 1000.0)
    assert scrape(fresh).values("hisparse_host_tokens") == [41422]


def test_line_counters_never_fall() -> None:
    """The end of a stream makes a pending line malformed that was ignored so far."""
    fresh = SidecarState()
    fresh.take(batch(f"2026-08-23T09:10:52.1Z stderr P {decode()[:90]}", stream="1"), 1000.0)
    assert fresh.logs[LOG].lines["ignored"] == 1
    fresh.take(batch(stream="2"), 1000.0)
    assert fresh.logs[LOG].lines == {"parsed": 0, "ignored": 1, "malformed": 1}
