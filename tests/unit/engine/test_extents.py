"""Slot ranges: best fit, merging, and refusal of what was never handed out."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.extents import Extent, ExtentAllocator


def with_holes(*holes: Extent, capacity: int = 100) -> ExtentAllocator:
    """Return an allocator whose free runs are exactly ``holes``."""
    allocator = ExtentAllocator(capacity)
    allocator.allocate(capacity)
    allocator.free(holes)
    return allocator


def test_takes_the_smallest_run_that_is_large_enough() -> None:
    allocator = with_holes(Extent(0, 30), Extent(40, 7), Extent(60, 12))
    assert allocator.allocate(6) == (Extent(40, 6),)
    assert allocator.free_extents == (Extent(0, 30), Extent(46, 1), Extent(60, 12))


def test_a_run_of_the_exact_size_disappears() -> None:
    allocator = with_holes(Extent(10, 5), Extent(20, 9))
    assert allocator.allocate(5) == (Extent(10, 5),)
    assert allocator.free_extents == (Extent(20, 9),)


def test_takes_the_largest_runs_first_when_none_is_large_enough() -> None:
    allocator = with_holes(Extent(0, 3), Extent(10, 8), Extent(30, 5))
    assert allocator.allocate(14) == (Extent(10, 8), Extent(30, 5), Extent(0, 1))
    assert allocator.num_free == 2


def test_fragmentation_costs_no_capacity() -> None:
    allocator = with_holes(*(Extent(start, 1) for start in range(0, 100, 2)))
    assert len(allocator.allocate(50)) == 50
    assert allocator.num_free == 0


def test_freed_runs_merge_with_both_neighbours() -> None:
    allocator = with_holes(Extent(10, 10), Extent(30, 10))
    allocator.free([Extent(20, 10)])
    assert allocator.free_extents == (Extent(10, 30),)


def test_allocating_nothing_takes_nothing() -> None:
    allocator = ExtentAllocator(0)
    assert allocator.allocate(0) == ()
    assert allocator.free_extents == ()


def test_more_than_is_free_is_refused_and_changes_nothing() -> None:
    allocator = with_holes(Extent(0, 4), Extent(50, 4))
    with pytest.raises(InvariantError, match=r"allocate\(9\) with 8 of 100 slots free"):
        allocator.allocate(9)
    assert allocator.free_extents == (Extent(0, 4), Extent(50, 4))


@pytest.mark.parametrize(
    "extent",
    [
        Extent(20, 5),
        Extent(18, 3),
        Extent(24, 3),
        Extent(15, 20),
        Extent(22, 1),
        Extent(-1, 2),
        Extent(99, 2),
    ],
    ids=str,
)
def test_freeing_what_is_free_or_does_not_exist_is_refused(extent: Extent) -> None:
    allocator = with_holes(Extent(20, 5))
    with pytest.raises(InvariantError, match="is freed but was not allocated"):
        allocator.free([extent])
    assert allocator.free_extents == (Extent(20, 5),)
    assert allocator.num_free == 5


@given(st.lists(st.integers(-8, 20), max_size=40))
def test_held_and_free_slots_always_partition_the_capacity(actions: list[int]) -> None:
    """Positive numbers allocate, negative ones free the n-th oldest allocation."""
    allocator, held = ExtentAllocator(60), []
    for action in actions:
        if 0 <= action <= allocator.num_free:
            held.append(allocator.allocate(action))
        elif action < 0 and held:
            allocator.free(held.pop(-action % len(held)))
        extents = [*allocator.free_extents, *chain.from_iterable(held)]
        slots = [slot for extent in extents for slot in range(extent.start, extent.stop)]
        assert sorted(slots) == list(range(60))
        assert allocator.num_free == sum(e.length for e in allocator.free_extents)
        gaps = zip(allocator.free_extents, allocator.free_extents[1:], strict=False)
        assert all(left.stop < right.start for left, right in gaps)
