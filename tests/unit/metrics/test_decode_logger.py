from __future__ import annotations

import pytest

from hisparse_metrics.decode_log import LogFormat, parse
from hisparse_metrics.decode_logger import DecodeLogger
from hisparse_metrics.stats import Levels, StepStats, Totals


def step(at: float, decode_steps: int, tokens: int, running: int = 1) -> StepStats:
    totals = Totals(decode_steps=decode_steps, generation_tokens=tokens)
    return StepStats(at, True, Levels(running_requests=running), totals)


def throughputs(lines: list[str]) -> list[float]:
    records = [parse(line) for line in lines]
    return [record.generation_throughput for record in records if record is not None]


@pytest.fixture
def lines() -> list[str]:
    return []


def test_one_line_every_interval(lines: list[str]) -> None:
    logger = DecodeLogger(lines.append, interval=3, clock=lambda: 0.0)
    for n in range(1, 10):
        logger.maybe_log(step(float(n), n, 10 * n))
    assert throughputs(lines) == [10.0, 10.0, 10.0]


def test_interval_of_one_logs_every_decode_step_and_nothing_else(lines: list[str]) -> None:
    logger = DecodeLogger(lines.append, interval=1, clock=lambda: 0.0)
    for at, decode_steps in ((1.0, 0), (2.0, 1), (3.0, 1), (4.0, 2)):
        logger.maybe_log(step(at, decode_steps, 6 * decode_steps))
    assert throughputs(lines) == [3.0, 3.0]


def test_time_without_requests_does_not_count(lines: list[str]) -> None:
    logger = DecodeLogger(lines.append, interval=2, clock=lambda: 0.0)
    for stats in (
        step(1.0, 1, 10), step(2.0, 2, 20, running=0), step(1000.0, 2, 20), step(1001.0, 3, 30), step(1002.0, 4, 40),
    ):  # fmt: skip
        logger.maybe_log(stats)
    assert throughputs(lines) == [10.0, 10.0]


def test_format_is_chosen_once(lines: list[str]) -> None:
    logger = DecodeLogger(lines.append, interval=1, log_format=LogFormat.JSON, clock=lambda: 0.0)
    logger.maybe_log(step(2.0, 1, 5))
    assert lines[0].startswith("{")
    assert throughputs(lines) == [2.5]


def test_no_time_between_two_lines_is_no_division_by_zero(lines: list[str]) -> None:
    logger = DecodeLogger(lines.append, interval=1, clock=lambda: 1.0)
    logger.maybe_log(step(1.0, 1, 5))
    logger.maybe_log(step(0.5, 2, 9))
    assert throughputs(lines) == [0.0, 0.0]


def test_a_failing_stream_never_reaches_the_engine_and_is_counted() -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError

    logger = DecodeLogger(closed, interval=1, clock=lambda: 0.0)
    logger.maybe_log(step(1.0, 1, 5))
    logger.maybe_log(step(float("nan"), 2, 5))
    assert logger.failures == 2


@pytest.mark.parametrize("interval", [0, -1])
def test_interval_below_one_is_refused(interval: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 step, got {interval}"):
        DecodeLogger(print, interval=interval)
