from __future__ import annotations

import pytest

from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.log_clock import LogClock, show
from hisparse_metrics.sidecar.replay import Replay
from tests.unit.sidecar.support import ACCESS, FakeClock, Scraped, decode, prefill


class Replayer:
    """A replay whose waits a test sees: what was exported before each, and how long each was."""

    def __init__(self, speed: float, stop_after: int | None = None) -> None:
        self.clock = FakeClock(5000.0)
        self.collector = SidecarCollector(EngineLabels(), 60.0 / speed, clock=self.clock)
        self.replay = Replay("x.log", self.collector, speed, self.wait, self.clock)
        self.waits: list[float] = []
        self.seen: list[list[float]] = []
        self._stop_after = stop_after

    def wait(self, seconds: float) -> bool:
        self.seen.append(Scraped(self.collector).values("hisparse_host_tokens"))
        self.waits.append(seconds)
        self.clock.now += seconds
        return len(self.waits) == self._stop_after

    def run(self, *lines: str) -> bool:
        return self.replay.run(line.encode() for line in lines)


LINES = (decode(1, clock="14:00:00"), decode(2, clock="14:00:10"), ACCESS, decode(3, clock="14:00:30"))


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_the_pace_is_the_log_s_own(speed: float) -> None:
    replayer = Replayer(speed)
    assert replayer.run(*LINES)
    assert replayer.waits == pytest.approx([10 / speed, 20 / speed])
    assert replayer.seen == [[1.0], [2.0]]
    assert Scraped(replayer.collector).values("hisparse_host_tokens") == [3.0]
    assert replayer.replay.num_records == 3


def test_the_times_are_those_of_now() -> None:
    replayer = Replayer(10.0)
    replayer.run(*LINES)
    seen = Scraped(replayer.collector)
    assert seen.values("hisparse_source_last_sample_timestamp_seconds") == [5003.0]
    assert seen.values("hisparse_engine_up") == [1.0]


def test_silence_in_the_log_ends_levels_in_the_log_s_time() -> None:
    replayer = Replayer(60.0)
    replayer.run(decode(1, clock="14:00:00"))
    replayer.clock.now += 2.0
    assert Scraped(replayer.collector).values("hisparse_host_tokens") == []


def test_a_replay_can_be_stopped() -> None:
    assert not Replayer(1.0, stop_after=1).run(*LINES)


def test_lines_of_one_moment_come_together() -> None:
    replayer = Replayer(1.0)
    replayer.run(*(decode(9, clock="14:00:00", ranks=f" TP{rank}") for rank in range(3)), prefill(5))
    assert len(replayer.waits) == 1


def test_a_log_clock_never_goes_back_and_passes_midnight() -> None:
    clock = LogClock()
    for time in ("23:59:59", "23:59:58", "00:00:01"):
        clock.see({"time": time})
    assert clock.now == 86400 + 1
    assert show(clock.now) == "00:00:01"


def test_a_log_clock_reads_dates_fractions_and_timestamps() -> None:
    clock = LogClock()
    clock.see({"date": "2026-04-08", "time": "14:00:00.250"})
    assert clock.now == 1775656800.25
    clock.see({"time": "nonsense"})
    clock.see({})
    assert show(clock.now) == "2026-04-08 14:00:00"
    clock.see({"timestamp": 1775656900.5})
    assert clock.now == 1775656900.5
