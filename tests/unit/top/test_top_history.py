"""Rates, quantiles and projections out of what was read, across restarts, gaps and engines that count rarely."""

from __future__ import annotations

import pytest

from hisparse_metrics import catalogue as m
from hisparse_metrics.histogram import Histogram
from hisparse_metrics.top.history import RankHistory, slope
from hisparse_metrics.top.reading import Engine
from tests.unit.top.support import START, sample

TOKENS = m.GENERATION_TOKENS


def fed(counts: list[tuple[float, float]], engine: Engine = Engine.HISPARSE) -> RankHistory:
    history = RankHistory(engine)
    for moment, count in counts:
        history.add(sample({TOKENS: count}), moment, None)
    return history


def test_one_sample_tells_no_rate() -> None:
    assert fed([(0, 50)]).rate(TOKENS) is None


def test_a_rate_looks_at_the_last_seconds_only() -> None:
    history = fed([(t, 100.0 * t) for t in range(100)] + [(100 + t, 9_900 + 10.0 * t) for t in range(10)])
    assert history.rate(TOKENS) == pytest.approx(10.0)


def test_a_counter_that_fell_starts_anew() -> None:
    history = fed([(0, 1_000), (1, 1_100), (2, 5)])
    assert history.rate(TOKENS) is None
    history.add(sample({TOKENS: 25}), 3, None)
    assert history.rate(TOKENS) == pytest.approx(20.0)


def test_a_restart_is_seen_even_where_the_counter_is_already_higher() -> None:
    history = fed([(0, 10), (1, 20)])
    history.add(sample({TOKENS: 500, m.ENGINE_START_TIME_SECONDS: START + 1}), 2, None)
    assert history.rate(TOKENS) is None


def test_a_metric_that_the_engine_does_not_have_has_no_rate() -> None:
    assert fed([(0, 1), (1, 2)]).rate(m.HOST_TO_DEVICE_BYTES) is None


def test_vllm_counts_about_once_a_minute_and_zero_is_not_believed_before() -> None:
    jumps = [(float(t), 6_000.0 * (t // 60)) for t in range(50)]
    assert fed(jumps, Engine.VLLM).rate(TOKENS) is None
    assert fed([(float(t), 6_000.0 * (t // 60)) for t in range(601)], Engine.VLLM).rate(
        TOKENS
    ) == pytest.approx(100.0)
    assert fed([(float(t), 7.0) for t in range(200)], Engine.VLLM).rate(TOKENS) == 0.0


def test_memory_is_bounded_however_often_it_is_fed() -> None:
    history = RankHistory(Engine.VLLM)
    for i in range(20_000):
        history.add(sample({TOKENS: i}), i / 10, 0.5)
    assert len(history._spaced) <= 302
    assert len(history._usages) <= 300


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([0.2 + 0.01 * t for t in range(30)], 0.01),
        ([0.5] * 30, None),
        ([0.9 - 0.01 * t for t in range(30)], None),
        ([0.2 + 0.01 * t for t in range(50)] + [0.7 - 0.005 * t for t in range(20)], None),
        ([0.2 + 0.01 * t for t in range(8)], None),
    ],
    ids=["rising", "flat", "falling", "just fell", "too short"],
)
def test_growth_is_told_only_while_it_lasts(usages: list[float], expected: float | None) -> None:
    history = RankHistory(Engine.HISPARSE)
    for moment, usage in enumerate(usages):
        history.add(sample(), float(moment), usage)
    assert history.usage_growth() == (None if expected is None else pytest.approx(expected))


def test_a_restart_forgets_the_growth() -> None:
    history = RankHistory(Engine.HISPARSE)
    for moment in range(30):
        history.add(sample(), float(moment), moment / 100)
    history.add(sample({m.ENGINE_START_TIME_SECONDS: START + 30}), 30.0, 0.31)
    assert history.usage_growth() is None


def test_steps_are_seen_by_our_own_clock() -> None:
    history, last = RankHistory(Engine.HISPARSE), m.ENGINE_LAST_STEP_TIMESTAMP_SECONDS
    history.add(sample({last: START}), 0.0, None)
    assert history.since_seen_stepping() is None
    history.add(sample({last: START + 1}), 1.0, None)
    history.add(sample({last: START + 1}), 4.0, None)
    assert history.since_seen_stepping() == 3.0


def test_step_quantile_is_of_the_window_not_of_all_time() -> None:
    history = RankHistory(Engine.HISPARSE)
    history.add(sample(steps=Histogram((0.01, 1.0), (1e6, 0, 0))), 0.0, None)
    history.add(sample(steps=Histogram((0.01, 1.0), (1e6, 10, 0))), 1.0, None)
    assert history.step_quantile(0.5) == pytest.approx(0.01 + 0.99 / 2)


def test_without_steps_there_is_no_quantile() -> None:
    history = RankHistory(Engine.HISPARSE)
    assert history.step_quantile(0.5) is None
    history.add(sample(), 0.0, None)
    assert history.step_quantile(0.5) is None


def test_slope_of_nothing_is_flat() -> None:
    assert slope([]) == slope([(1.0, 5.0)]) == 0.0
