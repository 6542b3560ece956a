"""The statistics of `observability.py`: what counts as a difference, and what as noise."""

from __future__ import annotations

import pytest

from benchmarks.observability import CONDITIONS, OFF
from benchmarks.observability_figures import confidence, describe


def test_confidence_is_students() -> None:
    mean, half = confidence([9.0, 10.0, 11.0, 10.0])
    assert mean == 10.0
    assert half == pytest.approx(3.182 * 0.8165 / 2, rel=1e-3)
    assert confidence([1.0])[1] == float("inf")
    assert confidence([0.0, 1.0] * 50)[1] == pytest.approx(0.0997, rel=0.01)


def test_a_shift_in_every_round_is_a_difference() -> None:
    off = [10.0, 12.0, 11.0, 10.5]  # the machine's mood changes from round to round: pairs see through it
    rounds = [[base + 0.01 + noise for noise in (-0.001, 0.0, 0.001)] for base in off]
    figures = describe(rounds, off)
    assert figures["difference_us"] == pytest.approx(10.0)
    assert figures["within_noise"] is False
    assert figures["difference_percent_95"][0] == pytest.approx(0.092, abs=0.001)


def test_a_shift_that_comes_and_goes_is_noise() -> None:
    off = [10.0, 12.0, 11.0, 10.5]
    figures = describe([[base + shift] for base, shift in zip(off, (0.1, -0.1, 0.2, -0.2), strict=True)], off)
    assert figures["within_noise"] is True
    assert figures["difference_us_95"][0] < 0 < figures["difference_us_95"][1]


def test_the_base_and_its_control_ask_for_nothing() -> None:
    assert CONDITIONS[OFF] == CONDITIONS["off, again"]
    assert sum(condition.published for condition in CONDITIONS.values()) == 3
    assert [name for name, condition in CONDITIONS.items() if not condition.timed] == [
        "off, swap-ins not timed"
    ]
