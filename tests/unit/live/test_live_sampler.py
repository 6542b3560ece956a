from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import pytest

from hisparse_metrics.live import pace as pace_module
from hisparse_metrics.live.history import ALL
from hisparse_metrics.live.pace import MAX_DELAY, MAX_SHARE, QUIET_AFTER, QUIET_SECONDS, Pace
from hisparse_metrics.live.reading import RankReading
from hisparse_metrics.live.sampler import Sampler
from hisparse_metrics.live.track import FINE
from tests.unit.live.support import Machine, reading

LEVELS = {"host_tokens": 5.0, "running": 1.0}


def kinds(machine: Machine) -> list[str]:
    return [event.kind for event in machine.sampler.history.events(0, 0.0)]


def test_a_death_and_a_restart_are_noted_once() -> None:
    machine = Machine()
    machine.turn(reading())
    for _ in range(3):
        machine.turn(reading(up=False))
    for _ in range(3):
        machine.turn(reading(started=2.0))
    assert kinds(machine) == ["down", "restart"]


def test_a_rank_that_was_dead_before_anybody_looked_is_no_event() -> None:
    machine = Machine()
    machine.turn(reading(up=False))
    assert kinds(machine) == []


def test_a_restart_goes_on_as_the_same_rank() -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    machine.turn(reading(started=2.0, levels=LEVELS))
    rows = machine.sampler.history.read(reading().id, FINE, 0.0)
    assert len(rows.times) == 2


def test_a_source_that_fails_is_a_gap_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    failing = Sampler(_fail, steady=lambda: machine.now, wall=lambda: machine.now)
    with caplog.at_level(logging.ERROR):
        failing.turn()
        failing.turn()
    assert [record.message for record in caplog.records] == ["cannot sample for the live page"]
    assert len(failing.history.read(ALL, FINE, 0.0).times) == 2


def _fail() -> Sequence[RankReading]:
    raise OSError("no such device")


def test_the_beat_is_a_second_however_long_a_sample_takes() -> None:
    machine = Machine()
    assert machine.turn(reading()) == 1.0
    assert machine.turn(reading(), seconds=1.2) == pytest.approx(0.8)


def test_a_suspended_machine_leaves_a_gap() -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    machine.turn(reading(levels=LEVELS), seconds=600.0)
    values = machine.answer()["rows"]["columns"]["host_tokens"]["value"]
    assert values[-2:] == [None, 5]


def test_a_slow_sample_is_no_gap() -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    machine.turn(reading(levels=LEVELS), seconds=3.0)
    assert machine.answer()["rows"]["columns"]["host_tokens"]["value"] == [5, 5]


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_is_set_moves_the_past_along(jump: float) -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    before = machine.answer()
    machine.wall_offset += jump
    machine.turn(reading(levels=LEVELS))
    after = machine.answer(f"since={before['cursor']}")
    assert after["complete"], "times given out before no longer fit"
    assert after["rows"]["time"] == [
        pytest.approx(before["rows"]["time"][0] + jump),
        pytest.approx(after["time"]),
    ]
    assert after["rows"]["time"] == sorted(after["rows"]["time"])


def test_a_clock_that_is_slewed_changes_nothing() -> None:
    machine = Machine()
    machine.turn(reading(levels=LEVELS))
    before = machine.answer()
    machine.wall_offset += 0.2
    machine.turn(reading(levels=LEVELS))
    assert not machine.answer(f"since={before['cursor']}")["complete"]


def test_sampling_never_takes_more_than_its_share() -> None:
    pace = Pace()
    for cost in (0.0, 0.001, 0.05, 0.2):
        assert cost / pace.delay(0.0, cost, changed=True) <= MAX_SHARE
    assert pace.delay(0.0, 1000.0, changed=True) == MAX_DELAY


def test_sampling_takes_it_easy_while_nothing_changes_and_nobody_looks() -> None:
    pace = Pace()
    assert pace.delay(0.0, 0.0, changed=True) == 1.0
    assert pace.delay(QUIET_AFTER - 1, 0.0, changed=False) == 1.0
    assert pace.delay(QUIET_AFTER, 0.0, changed=False) == QUIET_SECONDS
    pace.looked(QUIET_AFTER + 1)
    assert pace.delay(QUIET_AFTER + 2, 0.0, changed=False) == 1.0
    assert pace.delay(3 * QUIET_AFTER, 0.0, changed=False) == QUIET_SECONDS
    assert pace.delay(3 * QUIET_AFTER + 5, 0.0, changed=True) == 1.0


def test_looking_does_not_hurry_a_sampler_that_can_afford_no_more() -> None:
    pace = Pace()
    pace.delay(QUIET_AFTER, 1.0, changed=False)
    assert not pace.looked(QUIET_AFTER)
    pace.delay(3 * QUIET_AFTER, 0.0, changed=False)
    assert pace.looked(3 * QUIET_AFTER)
    assert not pace.looked(3 * QUIET_AFTER), "once is enough"


def test_two_samples_are_never_close_to_each_other() -> None:
    machine = Machine()
    machine.turn(reading())
    for late in (1.6, 3.0, 100.0):
        assert machine.turn(reading(), seconds=late) >= 0.5


def test_somebody_who_looks_wakes_a_sampler_that_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "QUIET_SECONDS", 3600.0)
    monkeypatch.setattr(pace_module, "MAX_DELAY", 3600.0)
    sampled = threading.Semaphore(0)

    def read() -> Sequence[RankReading]:
        sampled.release()
        return ()

    sampler = Sampler(read)
    sampler.start()
    try:
        assert sampled.acquire(timeout=30)
        while not sampled.acquire(timeout=0.05):
            sampler.looked()
    finally:
        sampler.close()
    assert not any(thread.name == "hisparse-history" for thread in threading.enumerate())
