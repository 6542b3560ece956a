from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.registry import CollectorRegistry

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.live.page_readings import PageReadings
from hisparse_metrics.live.reading import Kind, RankReading
from hisparse_metrics.live.sampler import Sampler
from hisparse_metrics.live.sources import readings_of
from hisparse_metrics.live.state import RankState, state_of
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.recorder import Recorder
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.views import Snapshot
from tests.support.fake_engine import idle_resident_step
from tests.unit.metrics.support import IDENTITY, make_step, published
from tests.unit.sidecar.support import (
    ACCESS,
    CRASH,
    LOG,
    READY,
    RETRACT,
    FakeClock,
    batch,
    decode,
    fed,
    prefill,
)


def of_logs(*lines: str, now: float = 1000.0, pages: PageCollector | None = None) -> list[RankReading]:
    collector = SidecarCollector(EngineLabels("glm"), 60.0, pages=pages, clock=FakeClock(now))
    collector.publish(Snapshot(fed(*lines).views()))
    return list(readings_of(collector)())


def test_a_page_says_what_its_engine_published(tmp_path: Path) -> None:
    recorder, step = published(tmp_path), make_step()
    [reading] = readings_of(PageCollector(PageFolder(tmp_path)))()
    recorder.close()
    levels = step.levels
    assert (reading.kind, reading.up, reading.last_step) == (Kind.PAGE, True, step.timestamp)
    assert reading.levels["device_tokens"] == levels.device_tokens
    assert reading.levels["device_spare"] == levels.device_tokens_spare > 0
    assert reading.levels["device_usage_committed"] < reading.levels["device_usage"]
    assert reading.levels["host_committed"] == levels.host_tokens + levels.host_tokens_reserved
    assert reading.levels["host_usage"] == step.token_stats.host_token_usage
    assert reading.totals["lookups"] == step.totals.swap_in_lookups
    assert sum(reading.histograms["step"].counts) == 1
    assert dict(reading.labels)["engine_name"] == IDENTITY.engine_name


def test_a_pool_that_does_not_exist_has_no_usage(tmp_path: Path) -> None:
    with Recorder(tmp_path, IDENTITY) as recorder:
        recorder.publish(idle_resident_step(1.0))
        [reading] = PageReadings(PageFolder(tmp_path))()
    assert "host_usage" not in reading.levels
    assert reading.levels["device_usage"] == reading.levels["device_usage_committed"] == 0.0


def test_a_rank_keeps_its_id_across_restarts_and_shares_it_with_nobody(tmp_path: Path) -> None:
    published(tmp_path).close()
    [before] = PageReadings(PageFolder(tmp_path))()
    recorder, other = published(tmp_path), published(tmp_path, replace(IDENTITY, tp_rank=1))
    after, second = PageReadings(PageFolder(tmp_path))()
    recorder.close()
    other.close()
    assert before.id == after.id != second.id
    assert before.incarnation != after.incarnation


def test_bad_pages_are_not_reported_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bad.page").write_bytes(b"x" * 9000)
    PageReadings(PageFolder(tmp_path).silent_twin())()
    assert caplog.records == []
    PageFolder(tmp_path).read()
    assert len(caplog.records) == 1


def test_sampling_does_not_wait_for_a_scrape(tmp_path: Path) -> None:
    collector = PageCollector(PageFolder(tmp_path))
    read = readings_of(collector)
    sampling = threading.Thread(target=read, daemon=True)
    with collector.folder._lock:  # as a scrape of a slow folder holds it
        sampling.start()
        sampling.join(30)
    assert not sampling.is_alive()


def test_a_log_says_what_it_can_and_nothing_more() -> None:
    [reading] = of_logs(decode(host=35000, host_usage="0.50", waiting=2), prefill())
    assert (reading.kind, reading.up, reading.last_step) == (Kind.LOG, True, 1000.0)
    assert reading.levels["host_tokens"] == 35000
    assert reading.levels["host_usage"] == 0.5
    assert reading.levels["generation"] == 153.75
    assert reading.totals["prompt"] == 100
    assert reading.histograms == {}
    assert "staging" not in reading.levels
    assert dict(reading.labels) == {
        "engine_name": "sglang", "model_name": "glm", "dp_rank": "0", "pp_rank": "0", "tp_rank": "0", "ep_rank": "0",
        "source": LOG,
    }  # fmt: skip


def test_a_log_without_a_split_still_has_its_pool() -> None:
    line = (
        "[2026-04-08 14:05:21 TP0] Decode batch, #running-req: 5, #token: 20800, token usage: 0.29, "
        "cuda graph: True, gen throughput (token/s): 144.95, #queue-req: 0"
    )
    [reading] = of_logs(line)
    assert (reading.levels["pool_tokens"], reading.levels["pool_usage"]) == (20800, 0.29)
    assert "device_usage" not in reading.levels


def test_levels_of_a_log_go_when_they_are_stale() -> None:
    [reading] = of_logs(decode(), now=2000.0)
    assert (reading.levels, reading.is_current, reading.last_step) == ({}, False, 1000.0)
    assert state_of(reading, 2000.0, 60.0) is RankState.SILENT


def test_what_a_log_tells_of_its_engine_is_its_state() -> None:
    states = [
        state_of(of_logs(*lines)[0], 1000.0, 60.0)
        for lines in ((decode(),), (decode(), CRASH), (READY, RETRACT, ACCESS))
    ]
    assert states == [RankState.UP, RankState.DOWN, RankState.IDLE]


def test_a_restart_in_a_log_keeps_the_sidecar_s_counters_going() -> None:
    collector = SidecarCollector(EngineLabels(), 60.0, clock=FakeClock())
    state = fed(READY, prefill(new=100))
    clock = FakeClock()
    sampler = Sampler(readings_of(collector), steady=clock, wall=clock)
    for lines in ((), (READY, prefill(new=50))):
        for line in lines:
            state.take(batch(line), 1000.0)
        collector.publish(Snapshot(state.views()))
        clock.now += 1.0
        sampler.turn()
    assert [event.kind for event in sampler.history.events(0, 0.0)] == ["restart"]
    [rank] = sampler.latest.ranks
    assert rank.reading.totals["prompt"] == 150


def test_logs_and_pages_together(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    kinds = [r.kind for r in of_logs(decode(), pages=PageCollector(PageFolder(tmp_path)))]
    recorder.close()
    assert sorted(kinds) == [Kind.LOG, Kind.PAGE]


def test_a_collector_of_something_else_has_no_ranks() -> None:
    assert list(readings_of(CollectorRegistry())()) == []  # type: ignore[arg-type]
