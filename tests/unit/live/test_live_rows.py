from __future__ import annotations

import math

import pytest

from hisparse_metrics.live.columns import COLUMNS, INDEX
from hisparse_metrics.live.reading import RankReading
from hisparse_metrics.live.recent import WINDOW_SECONDS
from hisparse_metrics.live.rows import RankRows, Row, combined
from tests.unit.live.support import BOUNDS, reading


def value(row: Row, column: str) -> float:
    return row.values[INDEX[column]]


def known(row: Row) -> set[str]:
    return {name for name in COLUMNS if not math.isnan(value(row, name))}


def test_levels_are_taken_as_they_are_and_zero_is_zero() -> None:
    row = RankRows().advance(0.0, reading(levels={"device_tokens": 7.0, "waiting": 0.0}))
    assert (value(row, "device_tokens"), value(row, "waiting")) == (7.0, 0.0)
    assert known(row) == {"device_tokens", "waiting"}


def test_a_rate_is_the_increase_over_the_time_between_two_readings() -> None:
    rows = RankRows()
    rows.advance(10.0, reading(totals={"generation": 100.0}))
    row = rows.advance(14.0, reading(totals={"generation": 120.0}))
    assert value(row, "generation") == 5.0


def test_a_first_reading_has_no_rate() -> None:
    row = RankRows().advance(0.0, reading(totals={"generation": 100.0, "hits": 1.0, "lookups": 2.0}))
    assert known(row) == set()


def test_after_a_restart_totals_have_grown_from_zero() -> None:
    rows = RankRows()
    rows.advance(0.0, reading(totals={"generation": 1e6}, counts=(50, 0, 0, 0)))
    row = rows.advance(2.0, reading(started=9.0, totals={"generation": 10.0}, counts=(0, 0, 4, 0)))
    assert rows.restarted
    assert value(row, "generation") == 5.0
    assert 0.02 < value(row, "step_p50") <= 0.04, "of the new process alone"
    rows.advance(3.0, reading(started=9.0, totals={"generation": 11.0}))
    assert not rows.restarted


def test_a_dead_rank_has_no_values() -> None:
    rows = RankRows()
    alive = {"levels": {"host_tokens": 5.0}, "totals": {"generation": 5.0, "hits": 1.0, "lookups": 2.0}}
    rows.advance(0.0, reading(counts=(1, 0, 0, 0), **alive))
    row = rows.advance(1.0, reading(up=False, counts=(2, 0, 0, 0), **alive))
    assert known(row) == set()


def test_hit_ratio_is_absent_where_nothing_was_looked_up() -> None:
    rows = RankRows()
    rows.advance(0.0, reading(totals={"hits": 9.0, "lookups": 10.0}))
    assert "hit_ratio" not in known(rows.advance(1.0, reading(totals={"hits": 9.0, "lookups": 10.0})))
    assert value(rows.advance(2.0, reading(totals={"hits": 12.0, "lookups": 14.0})), "hit_ratio") == 0.75


def test_quantiles_look_back_a_few_seconds_only() -> None:
    rows = RankRows()
    rows.advance(0.0, reading(counts=(0, 0, 0, 0)))
    slow = rows.advance(1.0, reading(counts=(0, 0, 0, 1)))
    assert value(slow, "step_p99") == BOUNDS[-1]
    for second in range(2, 2 + int(WINDOW_SECONDS)):
        row = rows.advance(float(second), reading(counts=(second, 0, 0, 1)))
    assert value(row, "step_p99") <= BOUNDS[0]


def test_no_step_no_quantile() -> None:
    rows = RankRows()
    for second in range(30):
        row = rows.advance(float(second), reading(counts=(7, 0, 0, 0)))
    assert "step_p50" not in known(row)


def together(*readings: RankReading, before: float = 0.0) -> Row:
    rows = []
    for each in readings:
        maker = RankRows()
        maker.advance(0.0, reading(totals=dict.fromkeys(each.totals, before)))
        rows.append((each, maker.advance(1.0, each)))
    return combined(rows)


def test_ranks_that_share_tokens_count_them_once() -> None:
    levels = {"host_tokens": 100.0, "running": 3.0}
    total = together(
        reading(0, tp=0, levels=levels), reading(0, tp=1, levels=levels), reading(1, levels=levels)
    )
    assert (value(total, "host_tokens"), value(total, "running")) == (200.0, 6.0)


def test_usage_is_the_fullest_rank_s() -> None:
    total = together(reading(0, levels={"host_usage": 0.2}), reading(1, levels={"host_usage": 0.9}))
    assert value(total, "host_usage") == 0.9


def test_hit_ratio_of_all_is_made_of_all_lookups() -> None:
    total = together(
        reading(0, totals={"hits": 90.0, "lookups": 100.0}),
        reading(1, totals={"hits": 0.0, "lookups": 900.0}),
    )
    assert value(total, "hit_ratio") == pytest.approx(0.09)


def test_quantiles_of_all_are_made_of_all_steps() -> None:
    total = together(reading(0, counts=(99, 0, 0, 0)), reading(1, counts=(0, 0, 1, 0)))
    assert (
        value(total, "step_p50") < 0.01 < 0.02 < value(together(reading(1, counts=(0, 0, 1, 0))), "step_p50")
    )


def test_bandwidth_adds_up_over_every_rank() -> None:
    moved = {"host_to_device": 50.0}
    total = together(reading(0, tp=0, totals=moved), reading(0, tp=1, totals=moved))
    assert value(total, "host_to_device") == 100.0


def test_nothing_makes_nothing() -> None:
    assert known(combined([])) == set()
