from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisparse_metrics.sidecar.capacity import CapacityEstimate, bounds


def estimate(*records: tuple[float, float], stated: tuple[float, ...] = ()) -> CapacityEstimate:
    result = CapacityEstimate()
    for tokens, usage in records:
        result.observe(tokens, usage, stated)
    return result


def test_one_record_is_enough_from_half_full_on() -> None:
    assert estimate((50_000, 0.50)).value == pytest.approx(100_000, rel=0.01)
    assert estimate((49_000, 0.49)).value is None


@pytest.mark.parametrize("record", [(0, 0.0), (10, 0.0), (400, 0.01), (29_000, 0.29)])
def test_low_usage_alone_says_nothing(record: tuple[float, float]) -> None:
    assert estimate(record).value is None


def test_several_records_of_a_filling_pool_narrow_it_together() -> None:
    assert estimate((41_822, 0.29)).value is None
    assert estimate((41_822, 0.29), (42_222, 0.30)).value == pytest.approx(142_500, rel=0.01)


def test_a_contradiction_means_another_pool() -> None:
    assert estimate((90_000, 0.90), (90_000, 0.45)).value is None
    assert estimate((90_000, 0.90), (180_000, 0.90)).value == pytest.approx(200_000, rel=0.01)


def test_a_figure_of_the_start_is_taken_where_it_agrees() -> None:
    assert estimate((20_800, 0.29), stated=(71_680.0,)).value == 71_680
    assert estimate((41_422, 0.29), stated=(71_680.0,)).value is None
    assert estimate((41_422, 0.29), stated=(71_680.0, 143_360.0)).value == 143_360
    assert estimate((1, 0.0), stated=(71_680.0,)).value is None


@given(st.integers(1, 10**8), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_never_wrong_by_more_than_one_percent(capacity: int, fills: list[float]) -> None:
    result = CapacityEstimate()
    for fill in fills:
        tokens = int(capacity * fill)
        result.observe(tokens, float(f"{tokens / capacity:.2f}"))
        low, high = bounds(tokens, float(f"{tokens / capacity:.2f}"))
        assert low <= capacity <= high
    assert result.value is None or abs(result.value - capacity) <= 0.0101 * capacity + 1
