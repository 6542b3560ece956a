"""The simulated policies against a slow, obvious cache, and against each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.eviction_policies import (
    NONE,
    Belady,
    BinnedLru,
    Clock,
    ExactLru,
    Fifo,
    Policy,
    Random,
    Trace,
    count_misses,
)


def random_trace(seed: int, steps: int = 60, top_k: int = 4, positions: int = 14) -> Trace:
    """A drifting selection with holes; the newest position is sometimes among those selected."""
    generator = np.random.default_rng(seed)
    selected = np.full((steps, top_k), NONE, dtype=np.int32)
    for step in range(steps):
        count = int(generator.integers(1, top_k + 1))
        weights = 1.0 / (1 + (np.arange(positions + step + 1) + step // 3) % (positions + step + 1))
        selected[step, :count] = generator.choice(
            len(weights), count, replace=False, p=weights / weights.sum()
        )
    return Trace(selected, np.arange(positions, positions + steps, dtype=np.int32))


def misses_of_dict_lru(trace: Trace, num_seats: int) -> list[int]:
    last_use: dict[int, int] = {}
    misses = []
    for step, newest in enumerate(trace.newest):
        wanted = {int(p) for p in trace.selected[step] if p != NONE}
        misses.append(len([p for p in wanted if p not in last_use and p != newest]))
        for position in wanted | {int(newest)}:
            last_use[position] = step
        while len(last_use) > num_seats:
            del last_use[min(last_use, key=lambda p: last_use[p])]
    return misses


def all_policies(num_seats: int, trace: Trace) -> dict[str, Policy]:
    return {
        "lru": ExactLru(num_seats),
        "binned": BinnedLru(num_seats),
        "clock": Clock(num_seats),
        "fifo": Fifo(num_seats),
        "random": Random(num_seats),
        "belady": Belady(num_seats, trace),
    }


def ticks(*steps: list[int]) -> Trace:
    selected: npt.NDArray[np.int32] = np.array(steps, dtype=np.int32)
    return Trace(selected, np.arange(100, 100 + len(steps), dtype=np.int32))


def test_lru_is_the_obvious_lru_where_no_two_rows_are_equally_old() -> None:
    trace = random_trace(1, top_k=1)
    fresh = Trace(trace.selected, trace.selected[:, 0].copy())  # the newest is the one selected: no ties
    # A miss of the newest does not count, so ask for the row before it instead.
    lagged = Trace(fresh.selected[1:], fresh.selected[:-1, 0].copy())
    for seats in (2, 3, 5):
        assert count_misses(lagged, seats, ExactLru(seats)).tolist() == misses_of_dict_lru(lagged, seats)


@pytest.mark.parametrize("seed", range(5))
def test_nobody_beats_the_optimum(seed: int) -> None:
    trace = random_trace(seed)
    for seats in (5, 7, 10):
        totals = {
            name: int(count_misses(trace, seats, p).sum()) for name, p in all_policies(seats, trace).items()
        }
        assert min(totals.values()) == totals["belady"]
        assert totals["belady"] < totals["random"]


@pytest.mark.parametrize("seed", range(3))
def test_a_buffer_for_everything_misses_only_what_it_never_saw(seed: int) -> None:
    trace = random_trace(seed)
    new = set(trace.selected[trace.selected != NONE].tolist())
    for name, policy in all_policies(100, trace).items():
        misses = int(count_misses(trace, 100, policy).sum())
        assert len(new) - len(trace.newest) <= misses <= len(new), name


@pytest.mark.parametrize(("exact", "parts", "most"), [(32, 16, 512), (512, 16, 1024), (128, 8, 256)])
def test_binned_ages_are_exact_at_first_and_then_a_share_of_an_octave(
    exact: int, parts: int, most: int
) -> None:
    ages = np.arange(1, 20_000)
    ranks = BinnedLru(1, exact, parts)._rank(ages)
    assert bool((np.diff(ranks) >= 0).all())
    assert ranks[: exact - 1].tolist() == list(range(1, exact))
    _, first, widths = np.unique(ranks, return_index=True, return_counts=True)
    assert bool((widths[:-1] <= np.maximum(1, ages[first][:-1] // parts)).all())
    assert ranks[exact - 1] > ranks[exact - 2]
    assert int(ranks.max()) < most


def test_bins_are_those_of_the_kernel() -> None:
    ages = np.arange(1, 100_000)
    kernel = ages.astype(np.float32).view(np.int32) >> 19  # seats.cuh's bin_of: the leading bits of a float
    ranks = BinnedLru(1)._rank(ages)
    assert np.array_equal(np.diff(kernel) > 0, np.diff(ranks) > 0)


def test_clock_spares_what_was_used_since_the_hand_came_by() -> None:
    # Seats: 1, 2, 3 and the newest. Step 2 wants 4: a whole round clears everybody, the hand takes a seat.
    clock = Clock(4)
    clock.used(np.array([0, 1, 2, 3]), 0)
    everybody = np.ones(4, dtype=np.bool_)
    assert clock.victims(1, everybody, 1).tolist() == [0]
    clock.used(np.array([0, 1]), 1)
    assert clock.victims(1, everybody, 2).tolist() == [2]  # 1 was used, 2 was not
    assert clock.victims(2, everybody, 3).tolist() == [3, 1]  # 0 is spared, and 1 no longer


def test_fifo_takes_seats_in_turn_and_passes_over_those_in_use() -> None:
    fifo = Fifo(4)
    assert fifo.victims(2, np.array([True, False, True, True]), 1).tolist() == [0, 2]
    assert fifo.victims(2, np.ones(4, dtype=np.bool_), 2).tolist() == [3, 0]


def test_the_newest_row_is_seated_and_never_a_miss() -> None:
    trace = ticks([100, NONE], [100, 101], [102, 7])
    assert count_misses(trace, 3, ExactLru(3)).tolist() == [0, 0, 1]


def test_a_row_in_use_keeps_its_seat() -> None:
    # Three seats, two rows wanted at every step, and the newest: whoever goes, it is not the one just wanted.
    trace = ticks([1, 2], [1, 2], [1, 2], [1, 3])
    for name, policy in all_policies(3, trace).items():
        assert count_misses(trace, 3, policy).tolist() == [2, 0, 0, 1], name
