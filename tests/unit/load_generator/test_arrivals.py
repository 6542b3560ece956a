"""Poisson arrivals: the expected number in any time, independent of each other, also while the rate rises."""

from __future__ import annotations

import random
from itertools import pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load_generator.arrivals import moment, poisson


def arrivals_until(end: float, rate: float, ramp: float = 0.0, seed: int = 1) -> list[float]:
    return list(takewhile(lambda time: time < end, poisson(rate, random.Random(seed), ramp)))


def test_there_are_as_many_as_the_rate_says_and_gaps_spread_as_exponential_ones_do() -> None:
    times = arrivals_until(2000, rate=5)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert len(times) == pytest.approx(10_000, rel=0.04)
    assert deviation == pytest.approx(mean, rel=0.05)
    assert sum(gap > 2 * mean for gap in gaps) / len(gaps) == pytest.approx(0.1353, abs=0.01)


def test_in_a_ramp_a_quarter_comes_in_the_first_half() -> None:
    times = arrivals_until(1000, rate=20, ramp=1000)
    assert len(times) == pytest.approx(10_000, rel=0.04)
    assert sum(time < 500 for time in times) / len(times) == pytest.approx(0.25, abs=0.02)


@given(
    expected=st.floats(0, 1e4), rate=st.floats(0.01, 1e3), ramp=st.one_of(st.just(0.0), st.floats(0.1, 100))
)
def test_the_moment_is_when_so_many_are_expected(expected: float, rate: float, ramp: float) -> None:
    time = moment(expected, rate, ramp)
    until_then = rate * time**2 / (2 * ramp) if time < ramp else rate * (time - ramp / 2)
    assert until_then == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_same_seed_gives_the_same_times() -> None:
    assert arrivals_until(10, rate=3) == arrivals_until(10, rate=3) != arrivals_until(10, rate=3, seed=2)
