"""One turn: read, count, save, publish; and what a kill at any moment leaves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_metrics.follow.follower import Follower
from hisparse_metrics.follow.state import StateFile
from hisparse_metrics.sidecar import pump
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.config import SidecarConfig, SourcesConfig
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.pump import Pump, written_at
from hisparse_metrics.sidecar.sources import file_patterns, make_sources, source_label
from tests.unit.sidecar.support import FakeClock, Scraped, batch, decode, prefill

START = 1_800_000_000.0


class Process:
    """One life of the sidecar over a log and a state file. Killing it is not calling it any more."""

    def __init__(
        self, log: Path, state_file: Path | None, clock: FakeClock, *, from_start: bool = True
    ) -> None:
        config = SidecarConfig(SourcesConfig(sglang_log=(str(log),)), from_start=from_start)
        follower = Follower(make_sources(config, tee=False), StateFile(state_file) if state_file else None)
        self.collector = SidecarCollector(EngineLabels(), 60.0, clock=clock)
        self.follower = follower
        self.pump = Pump(follower, self.collector, patterns=file_patterns(config), clock=clock)

    def value(self, name: str, **labels: str) -> float:
        """Return the only series, 0 before there is one."""
        return next(iter(Scraped(self.collector).values(name, **labels)), 0.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


def write(log: Path, text: str, clock: FakeClock) -> None:
    """Append to the log, at the clock's time."""
    with log.open("a") as file:
        file.write(text)
    os.utime(log, (clock.now, clock.now))


def test_a_turn_shows_what_was_written(tmp_path: Path, clock: FakeClock) -> None:
    log = tmp_path / "a.log"
    write(log, decode() + "\n" + prefill(100) + "\n", clock)
    process = Process(log, None, clock)
    process.pump.turn()
    assert process.value("hisparse_host_tokens") == 41422
    assert process.value("hisparse_prompt_tokens_total") == 100
    assert process.value("hisparse_source_up", source=str(log)) == 1
    assert process.value("hisparse_source_bytes_total", source=str(log)) == log.stat().st_size


def test_nothing_is_visible_before_it_is_saved(tmp_path: Path, clock: FakeClock) -> None:
    log, state_file = tmp_path / "a.log", tmp_path / "state"
    write(log, prefill(1) + "\n", clock)
    process = Process(log, state_file, clock)
    process.pump.turn()
    assert process.value("hisparse_prompt_tokens_total") == 1
    write(log, prefill(10) + "\n", clock)
    clock.now += 0.5
    process.pump.turn()
    assert process.value("hisparse_prompt_tokens_total") == 1
    clock.now += 0.6
    process.pump.turn()
    assert process.value("hisparse_prompt_tokens_total") == 11


def test_what_comes_now_and_then_is_visible_at_once(tmp_path: Path, clock: FakeClock) -> None:
    log, state_file = tmp_path / "a.log", tmp_path / "state"
    log.touch()
    process = Process(log, state_file, clock)
    for number in range(1, 4):
        for _ in range(5):  # Turns without anything new put nothing off.
            process.pump.turn()
            clock.now += 0.25
        write(log, prefill(1) + "\n", clock)
        process.pump.turn()
        assert process.value("hisparse_prompt_tokens_total") == number


def test_without_a_state_file_every_turn_shows_what_is_new(tmp_path: Path, clock: FakeClock) -> None:
    log = tmp_path / "a.log"
    process = Process(log, None, clock)
    for number in range(1, 4):
        write(log, prefill(1) + "\n", clock)
        process.pump.turn()
        assert process.value("hisparse_prompt_tokens_total") == number
        clock.now += 0.1


def test_the_end_of_a_backlog_is_visible_at_once(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "POLL_BYTES", 1000)
    log = tmp_path / "a.log"
    write(log, (prefill(1) + "\n") * 30, clock)
    process = Process(log, tmp_path / "state", clock)
    assert process.pump.turn()
    assert 0 < (begin := process.value("hisparse_prompt_tokens_total")) < 30
    assert process.pump.turn()
    assert process.value("hisparse_prompt_tokens_total") == begin
    while process.pump.turn():
        pass
    assert process.value("hisparse_prompt_tokens_total") == 30


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 2), st.booleans()), min_size=1, max_size=12))
def test_a_kill_at_any_moment_neither_repeats_nor_skips(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[int, float, bool]]
) -> None:
    """Each step appends some lines, lets time pass, turns, and may kill. What is visible never falls."""
    folder, clock = tmp_path_factory.mktemp("kill"), FakeClock(START)
    log, state_file = folder / "a.log", folder / "state"
    log.touch()
    process, written, visible = Process(log, state_file, clock), 0, 0.0
    for lines, seconds, is_killed in script:
        for _ in range(lines):
            written += 1
            write(log, prefill(1) + "\n", clock)
        clock.now += seconds
        process.pump.turn()
        assert visible <= process.value("hisparse_prompt_tokens_total") <= written
        visible = process.value("hisparse_prompt_tokens_total")
        if is_killed:
            process = Process(log, state_file, clock)
    clock.now += 2
    process.pump.turn()
    process.pump.finish()
    assert process.value("hisparse_prompt_tokens_total") == written


def test_a_scrape_before_the_first_turn_of_a_new_life_finds_no_counter_missing(
    tmp_path: Path, clock: FakeClock
) -> None:
    log, state_file = tmp_path / "a.log", tmp_path / "state.json"
    write(log, prefill(100) + "\n", clock)
    first = Process(log, state_file, clock)
    first.pump.turn()
    first.follower.close()
    second = Process(log, state_file, clock)
    assert second.value("hisparse_prompt_tokens_total") == 100
    assert Scraped(second.collector).values("hisparse_host_tokens") == []
    second.follower.close()


def test_a_state_file_that_cannot_be_written_does_not_stop_the_metrics(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "a.log"
    write(log, prefill(5) + "\n", clock)
    (tmp_path / "folder").mkdir()
    process = Process(log, tmp_path / "folder" / "state", clock)
    shutil.rmtree(tmp_path / "folder")
    process.pump.turn()
    clock.now += 2
    process.pump.turn()
    assert process.value("hisparse_prompt_tokens_total") == 5
    assert process.value("hisparse_sidecar_state_file_failures_total") == 2
    assert caplog.text.count("state file") == 1


def test_an_old_log_read_now_has_no_levels(tmp_path: Path, clock: FakeClock) -> None:
    log = tmp_path / "a.log"
    write(log, decode() + "\n" + prefill(5) + "\n", clock)
    clock.now += 3600
    process = Process(log, None, clock)
    process.pump.turn()
    assert process.value("hisparse_prompt_tokens_total") == 5
    assert "hisparse_host_tokens" not in Scraped(process.collector).names()
    assert process.value("hisparse_source_last_sample_timestamp_seconds") == START


def test_backlog_is_counted_and_its_levels_are_not_shown(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "POLL_BYTES", 1000)
    monkeypatch.setattr(pump, "BACKLOG_BYTES", 1000)
    log = tmp_path / "a.log"
    write(log, (decode(1) + "\n") * 30, clock)
    write(log, decode(2) + "\n", clock)
    process = Process(log, None, clock)
    assert process.pump.turn()
    clock.now += 2
    assert "hisparse_host_tokens" not in Scraped(process.collector).names()
    while process.pump.turn():
        clock.now += 2
    clock.now += 2
    os.utime(log, (clock.now, clock.now))
    write(log, decode(3) + "\n", clock)
    process.pump.turn()
    assert process.value("hisparse_host_tokens") == 3


def test_a_log_that_is_gone_and_silent_is_dead(tmp_path: Path, clock: FakeClock) -> None:
    log = tmp_path / "a.log"
    write(log, decode() + "\n", clock)
    process = Process(log, None, clock)
    process.pump.turn()
    log.unlink()
    clock.now += 6
    process.pump.turn()
    assert process.value("hisparse_source_state", state="working") == 1
    clock.now += 61
    process.pump.turn()
    assert process.value("hisparse_source_state", state="dead") == 1
    assert process.value("hisparse_engine_up") == 0


def test_a_batch_s_age_is_that_of_its_newest_line(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.touch()
    os.utime(log, (100.0, 100.0))
    assert written_at(batch(source=str(log)), 500.0) == 100.0
    assert written_at(batch(source=str(log)), 50.0) == 50.0
    assert written_at(batch(source="stdin"), 500.0) == 500.0
    assert written_at(batch(source=str(tmp_path / "none")), 500.0) == 500.0
    entry = '{"__REALTIME_TIMESTAMP" : "1500000000250000", "MESSAGE": "x"}'
    assert written_at(batch(entry, source="journald:s"), 2e9) == 1_500_000_000.25
    assert written_at(batch("no entry", source="journald:s"), 2e9) == 2e9


def test_a_lone_pattern_is_its_own_label() -> None:
    assert source_label("files", ["/a/*.log"]) == "/a/*.log"
    assert source_label("files", ["/a", "/b"]) == "files"
    assert source_label("stdin", ["/a"]) == "stdin"
