"""Which rows are hot: lookups, exact LRU, and both directions of the map."""

from __future__ import annotations

import numpy as np
import pytest

from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.residency import NONE, ResidencyMap, Slots, Where

BUFFER = np.array([2, 3, 4, 5])
GROUPS = 2


def slots(*values: int) -> Slots:
    return np.array(values, dtype=np.int64)


def seated(now: int = 1) -> tuple[ResidencyMap, Where]:
    """Positions 10 … 13 of a request sit in device slots 2 … 5 of both groups."""
    residency = ResidencyMap(GROUPS, device_capacity=8)
    where = residency.new_map(20)
    residency.seat_prompt(where, BUFFER, slots(10, 11, 12, 13), now)
    return residency, where


def hot(residency: ResidencyMap, group: int) -> set[int]:
    return set(residency.position_at[group, BUFFER].tolist()) - {NONE}


def assert_inverse(residency: ResidencyMap, where: Where, buffer: Slots = BUFFER) -> None:
    for group in range(GROUPS):
        seats = {d: p for d in buffer.tolist() if (p := int(residency.position_at[group, d])) != NONE}
        assert {d: p for p, d in enumerate(where[group].tolist()) if d != NONE} == seats


def test_lookup_finds_what_is_hot_and_marks_it_used() -> None:
    residency, where = seated(now=1)
    found, hits = residency.lookup(where, 0, slots(11, 7, 13), now=5)
    assert hits.tolist() == [True, False, True]
    assert found.tolist() == [3, NONE, 5]
    assert residency.last_use[0, BUFFER].tolist() == [1, 5, 1, 5]
    assert residency.last_use[1, BUFFER].tolist() == [1, 1, 1, 1], "another group has its own clock"


def test_a_miss_touches_no_age() -> None:
    residency, where = seated(now=1)
    before = residency.last_use.copy()
    residency.lookup(where, 0, slots(7), now=5)
    assert np.array_equal(residency.last_use, before)


def test_replace_evicts_the_least_recently_used() -> None:
    residency, where = seated(now=1)
    residency.lookup(where, 0, slots(10, 12), now=2)
    residency.lookup(where, 0, slots(13), now=3)
    copies = residency.replace(where, 0, BUFFER, slots(7), now=4)
    assert (copies.positions.tolist(), copies.device_slots.tolist(), copies.num_evicted) == ([7], [3], 1)
    copies = residency.replace(where, 0, BUFFER, slots(8, 9), now=5)
    assert sorted(copies.device_slots.tolist()) == [2, 4]
    assert hot(residency, 0) == {7, 8, 9, 13}
    assert hot(residency, 1) == {10, 11, 12, 13}
    assert_inverse(residency, where)


def test_replace_takes_empty_slots_first() -> None:
    residency = ResidencyMap(GROUPS, 8)
    where = residency.new_map(20)
    residency.seat_prompt(where, BUFFER[:2], slots(10, 11), now=1)
    copies = residency.replace(where, 0, BUFFER, slots(7, 8), now=2)
    assert copies.num_evicted == 0
    assert hot(residency, 0) == {7, 8, 10, 11}


def test_replace_never_takes_a_slot_that_this_step_uses() -> None:
    residency, where = seated(now=1)
    residency.lookup(where, 0, slots(10, 11), now=2)
    with pytest.raises(InvariantError, match="3 rows to seat do not fit the cold slots of a buffer of 4"):
        residency.replace(where, 0, BUFFER, slots(7, 8, 9), now=2)
    with pytest.raises(InvariantError, match="5 rows to seat"):
        residency.replace(where, 0, BUFFER, slots(5, 6, 7, 8, 9), now=3)


def test_replace_may_take_the_whole_buffer() -> None:
    residency, where = seated(now=1)
    assert residency.replace(where, 0, BUFFER, slots(6, 7, 8, 9), now=2).num_evicted == 4
    assert hot(residency, 0) == {6, 7, 8, 9}
    assert_inverse(residency, where)


def test_the_newest_row_takes_each_groups_own_coldest_slot() -> None:
    residency, where = seated(now=1)
    residency.lookup(where, 0, slots(10), now=2)
    residency.lookup(where, 1, slots(11, 12, 13), now=2)
    taken, evicted = residency.seat_everywhere(where, BUFFER, 19, now=3)
    assert taken.tolist() == [3, 2]
    assert evicted.tolist() == [True, True]
    assert hot(residency, 0) == {19, 10, 12, 13}
    assert hot(residency, 1) == {19, 11, 12, 13}
    assert residency.last_use[[0, 1], taken].tolist() == [3, 3]
    assert_inverse(residency, where)


def test_a_row_that_two_requests_share_has_a_seat_in_each_ones_buffer() -> None:
    residency, first = seated(now=1)
    second = residency.new_map(20)
    residency.seat_prompt(second, slots(6, 7), slots(12, 13), now=1)
    residency.replace(first, 0, BUFFER, slots(1, 2, 3, 4), now=2)
    assert residency.lookup(second, 0, slots(12, 13), now=2)[0].tolist() == [6, 7]
    assert_inverse(residency, first)
    assert_inverse(residency, second, slots(6, 7))


def test_forget_leaves_no_trace_and_no_neighbour_notices() -> None:
    residency, _ = seated(now=1)
    neighbour = residency.new_map(20)
    residency.seat_prompt(neighbour, slots(0, 1), slots(0, 1), now=1)
    residency.forget(BUFFER)
    assert hot(residency, 0) == hot(residency, 1) == set()
    assert not residency.last_use[:, BUFFER].any()
    assert_inverse(residency, neighbour, slots(0, 1))


def test_reset_leaves_nothing() -> None:
    residency, _ = seated(now=1)
    residency.reset()
    assert (residency.position_at == NONE).all()
    assert not residency.last_use.any()


def test_the_maps_say_what_they_cost() -> None:
    residency = ResidencyMap(2, device_capacity=8)
    assert residency.num_bytes == 2 * 8 * (4 + 8)
    assert residency.new_map(20).nbytes == 2 * 20 * 4
