from __future__ import annotations

import math

from hisparse_metrics.live.columns import INDEX
from hisparse_metrics.live.history import ALL, MAX_EVENTS, REASSIGN_AFTER_SECONDS, History
from hisparse_metrics.live.ring import Ring
from hisparse_metrics.live.track import COARSE, FINE
from tests.unit.live.support import row

TEN, SIXTY = COARSE
HOST = INDEX["host_tokens"]


def filled(values: list[float], start: float = 0.0, history: History | None = None) -> History:
    history = history or History()
    for index, value in enumerate(values):
        history.append(start + index, {ALL: row(host_tokens=value)})
    return history


def test_a_ring_keeps_the_newest_rows_in_order() -> None:
    ring = Ring(3, 2)
    for number in range(5):
        ring.put(number, (number, -number))
    assert list(ring.column(0, 2, 5)) == [2, 3, 4]
    assert list(ring.column(1, 3, 5)) == [-3, -4]
    assert list(ring.column(0, 4, 4)) == []


def test_fine_rows_come_back_as_they_were() -> None:
    rows = filled([1, 2, 3]).read(ALL, FINE, after=0.0)
    assert (rows.first, list(rows.times), list(rows.values[HOST])) == (0, [0, 1, 2], [1, 2, 3])
    assert all(math.isnan(v) for v in rows.values[INDEX["waiting"]]), "what never had a value is a gap"


def test_only_the_window_comes_back() -> None:
    rows = filled(list(range(50))).read(ALL, FINE, after=47.0)
    assert (rows.first, list(rows.values[HOST])) == (47, [47, 48, 49])


def test_only_what_is_new_comes_back() -> None:
    history = filled(list(range(50)))
    assert history.read(ALL, FINE, 0.0, since=50).times.tolist() == []
    assert history.read(ALL, FINE, 0.0, since=49).values[HOST].tolist() == [49]
    assert history.read(ALL, FINE, 0.0, since=51).first == 0, "a row that is not there yet: everything"


def test_coarse_rows_have_lowest_average_and_highest() -> None:
    history = filled([0, 2, 4, 6, 8, 10, 12, 14, 16, 100, 5])
    rows = history.read(ALL, TEN, after=0.0)
    assert (rows.low[HOST][0], rows.high[HOST][0]) == (0, 100)
    assert math.isclose(rows.values[HOST][0], 17.2, rel_tol=1e-6)
    assert list(rows.times) == [9, 10], "a row's time is its last sample's; the second has just begun"


def test_an_unfinished_row_keeps_its_number_until_it_is_finished() -> None:
    history = filled([1] * 12)
    first = history.read(ALL, TEN, 0.0)
    assert (first.closed, first.times.tolist()) == (1, [9, 11])
    filled([9] * 3, start=12, history=history)
    again = history.read(ALL, TEN, 0.0, since=first.closed)
    assert (again.first, again.times.tolist(), again.high[HOST].tolist()) == (1, [14], [9])


def test_minutes_are_made_of_tens() -> None:
    history = filled([50 if second == 3 else 1 for second in range(61)])
    rows = history.read(ALL, SIXTY, 0.0)
    assert (rows.high[HOST].tolist(), rows.low[HOST].tolist()) == ([50, 1], [1, 1])


def test_one_spike_of_a_second_is_seen_a_day_later() -> None:
    history = filled([1.0, 1.0, 77.0, 1.0])
    for minute in range(1, 24 * 60 - 1):
        history.append(minute * 60.0, {ALL: row(host_tokens=1.0)})
    rows = history.read(ALL, SIXTY, 0.0)
    assert max(rows.high[HOST]) == 77.0
    assert max(rows.values[HOST]) < 77.0


def test_a_rank_that_is_gone_has_a_gap_and_not_its_last_value() -> None:
    history = History()
    history.append(0.0, {ALL: row(), "a": row(host_tokens=5)})
    history.append(1.0, {ALL: row(host_tokens=7)})
    history.append(2.0, {ALL: row(), "a": row(host_tokens=0)})
    values = history.read("a", FINE, 0.0).values[HOST].tolist()
    assert (values[0], math.isnan(values[1]), values[2]) == (5, True, 0)


def test_a_ring_that_came_round_shows_nothing_of_before() -> None:
    history = History()
    history.append(0.0, {"a": row(host_tokens=5)})
    for second in range(1, FINE.capacity + 1):
        history.append(float(second), {})
    assert all(math.isnan(v) for v in history.read("a", FINE, 0.0).values[HOST])


def test_a_gap_stands_in_every_tier() -> None:
    history = filled([1, 2, 3])
    history.gap()
    filled([4], start=7200, history=history)
    for tier in (FINE, *COARSE):
        values = history.read(ALL, tier, 0.0).values[HOST].tolist()
        assert math.isnan(values[-2]), tier
        assert values[-1] == 4


def test_a_gap_before_anything_is_nothing() -> None:
    history = History()
    history.gap()
    assert history.read(ALL, FINE, 0.0).times.tolist() == []


def test_memory_is_that_of_the_first_ranks_whatever_comes() -> None:
    history = History(max_ranks=2)
    history.append(0.0, {ALL: row(), "a": row(), "b": row()})
    size = history.num_bytes
    for second in range(1, 2000):
        history.append(
            float(second), {ALL: row(host_tokens=second), "a": row(), "b": row(), f"r{second}": row()}
        )
    assert history.num_bytes == size
    assert not history.is_recorded("r1999")


def test_a_rank_gone_for_long_gives_its_place_away() -> None:
    history = History(max_ranks=1)
    history.append(0.0, {"old": row(host_tokens=9)})
    history.append(REASSIGN_AFTER_SECONDS - 1, {"new": row(host_tokens=1)})
    assert not history.is_recorded("new")
    history.append(REASSIGN_AFTER_SECONDS + 1, {"new": row(host_tokens=1)})
    assert (history.is_recorded("new"), history.is_recorded("old")) == (True, False)
    values = history.read("new", FINE, 0.0).values[HOST].tolist()
    assert (math.isnan(values[0]), values[-1]) == (True, 1), "nothing of the other rank"


def test_a_rank_without_history_has_no_rows_and_keeps_the_numbers() -> None:
    rows = filled([1, 2]).read("unknown", FINE, 0.0)
    assert (rows.first, rows.closed, rows.times.tolist()) == (2, 2, [])


def test_events_are_bounded_and_numbered_on() -> None:
    history = History()
    for number in range(MAX_EVENTS + 10):
        history.note(float(number), "restart", "a")
    found = history.events(0, after=0.0)
    assert (len(found), found[0].number, history.num_events) == (MAX_EVENTS, 10, MAX_EVENTS + 10)
    assert history.events(MAX_EVENTS + 9, 0.0) == [found[-1]]
    assert history.events(0, after=MAX_EVENTS + 8.0) == found[-2:]
