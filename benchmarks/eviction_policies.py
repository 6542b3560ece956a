"""Replacement in a hot buffer, simulated: which row gives up its seat when a step wants one that is absent.

The rules are those of the engine: all that a step selects has to be seated at once, a row used in this step keeps its
seat, the newest row is always seated and never counts as a miss. A policy only ranks the seats that may be taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

NONE = -1
NEVER = np.iinfo(np.int32).max
"""The next use of a position that is not used again."""

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trace:
    """What one request selected in one index group, step by step, and which position was the newest."""

    selected: npt.NDArray[np.int32]
    """``[steps, k]``: positions, in any order, padded with NONE."""
    newest: npt.NDArray[np.int32]
    """``[steps]``."""

    @property
    def top_k(self) -> int:
        """Positions that a step selects at most."""
        return int(self.selected.shape[1])


class Policy(Protocol):
    """``seats`` are numbers from 0. Empty ones are filled without asking."""

    def used(self, seats: Ints, step: int) -> None:
        """Note that ``seats`` are used in ``step``, as hits or because a row was just put there."""

    def victims(self, count: int, may_go: Mask, step: int) -> Ints:
        """Return ``count`` seats out of those that ``may_go``, which are at least as many."""

    def seated(self, seats: Ints, positions: Ints) -> None:
        """Note which positions were put into ``seats``."""


class ExactLru:
    """The seat whose last use is longest ago; of equals the lower seat."""

    def __init__(self, num_seats: int) -> None:
        self._last_use = np.zeros(num_seats, dtype=np.int64)

    def used(self, seats: Ints, step: int) -> None:
        self._last_use[seats] = step

    def victims(self, count: int, may_go: Mask, step: int) -> Ints:
        return _smallest(-self._rank(step - self._last_use), count, may_go)

    def seated(self, seats: Ints, positions: Ints) -> None:
        pass

    def _rank(self, age: Ints) -> Ints:
        return age


class BinnedLru(ExactLru):
    """Ages exact below ``exact`` steps (a power of two), then ``parts`` bins an octave (a smaller one).

    A histogram of the bins ranks all seats in one pass, without sorting. The default is the CUDA kernel's.
    """

    def __init__(self, num_seats: int, exact: int = 32, parts: int = 16) -> None:
        super().__init__(num_seats)
        self._exact, self._parts = exact, parts

    def _rank(self, age: Ints) -> Ints:
        octave = np.frexp(np.maximum(age, 1))[1].astype(np.int64) - 1  # floor(log2(age))
        above = octave - (self._exact.bit_length() - 1)
        within = (age >> np.maximum(octave - (self._parts.bit_length() - 1), 0)) & (self._parts - 1)
        return np.where(age < self._exact, age, self._exact + above * self._parts + within)


class Clock:
    """Second chance: a hand goes round; a seat used since it last came by is spared once."""

    def __init__(self, num_seats: int) -> None:
        self._spared = np.zeros(num_seats, dtype=np.bool_)
        self._hand = 0

    def used(self, seats: Ints, step: int) -> None:
        self._spared[seats] = True

    def victims(self, count: int, may_go: Mask, step: int) -> Ints:
        order = np.roll(np.arange(len(may_go)), -self._hand)
        first = order[may_go[order] & ~self._spared[order]]
        if len(first) >= count:
            return self._taken(order, first[:count])
        second = order[may_go[order] & self._spared[order]][: count - len(first)]
        self._spared[may_go] = False  # a whole round has passed
        return self._taken(order, second, first)

    def seated(self, seats: Ints, positions: Ints) -> None:
        pass

    def _taken(self, order: Ints, last_round: Ints, *earlier: Ints) -> Ints:
        """Move the hand behind the last seat taken, and clear what it passed."""
        end = int(np.flatnonzero(order == last_round[-1])[0]) + 1
        self._spared[order[:end]] = False
        self._hand = int(order[end - 1] + 1) % len(order)
        return np.concatenate([*earlier, last_round])


class Fifo:
    """A ring: seats are taken in turn, those in use are passed over."""

    def __init__(self, num_seats: int) -> None:
        self._next = 0

    def used(self, seats: Ints, step: int) -> None:
        pass

    def victims(self, count: int, may_go: Mask, step: int) -> Ints:
        order = np.roll(np.arange(len(may_go)), -self._next)
        taken = order[may_go[order]][:count]
        self._next = int(taken[-1] + 1) % len(may_go)
        return taken

    def seated(self, seats: Ints, positions: Ints) -> None:
        pass


class Random:
    """Any seat."""

    def __init__(self, num_seats: int, seed: int = 1) -> None:
        self._generator = np.random.default_rng(seed)

    def used(self, seats: Ints, step: int) -> None:
        pass

    def victims(self, count: int, may_go: Mask, step: int) -> Ints:
        return self._generator.choice(np.flatnonzero(may_go), count, replace=False)

    def seated(self, seats: Ints, positions: Ints) -> None:
        pass


class Belady:
    """The optimum, which knows the future: the seat whose row is wanted again last."""

    def __init__(self, num_seats: int, trace: Trace) -> None:
        self._next_use, self._wanted_at = next_uses(
            trace
        )  # the latter by position: its next use after this step
        self._selected = trace.selected
        self._position = np.full(num_seats, NONE, dtype=np.int64)

    def used(self, seats: Ints, step: int) -> None:
        wanted = self._selected[step]
        real = wanted != NONE
        self._wanted_at[wanted[real]] = self._next_use[step][real]

    def victims(self, count: int, may_go: Mask, step: int) -> Ints:
        again = np.where(self._position == NONE, NEVER, self._wanted_at[self._position])
        return _smallest(-again.astype(np.int64), count, may_go)

    def seated(self, seats: Ints, positions: Ints) -> None:
        self._position[seats] = positions


def next_uses(trace: Trace) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the next step that selects each selected position again ``[steps, k]``, and each one's first ``[positions]``."""
    coming = np.full(int(max(trace.selected.max(), trace.newest.max())) + 1, NEVER, dtype=np.int32)
    after = np.full(trace.selected.shape, NEVER, dtype=np.int32)
    for step in range(len(trace.selected) - 1, -1, -1):
        wanted = trace.selected[step]
        real = wanted != NONE
        after[step][real] = coming[wanted[real]]
        coming[wanted[real]] = step
    return after, coming


def _smallest(key: Ints, count: int, may_go: Mask) -> Ints:
    """Return the ``count`` allowed seats of the smallest key, of equals the lower."""
    seats = np.flatnonzero(may_go)
    keys = key[seats] * len(may_go) + seats
    return seats[np.argpartition(keys, count - 1)[:count]]


def count_misses(trace: Trace, num_seats: int, policy: Policy) -> npt.NDArray[np.int64]:
    """Return the misses of each step in a buffer of ``num_seats``, the newest row's seat included."""
    where = np.full(int(max(trace.selected.max(), trace.newest.max())) + 1, NONE, dtype=np.int64)
    position_at = np.full(num_seats, NONE, dtype=np.int64)
    misses = np.zeros(len(trace.selected), dtype=np.int64)
    for step, newest in enumerate(trace.newest):
        wanted = trace.selected[step]
        wanted = wanted[wanted != NONE].astype(np.int64)
        absent = wanted[(where[wanted] == NONE) & (wanted != newest)]
        misses[step] = len(absent)
        resident = np.append(wanted, newest)
        hits = where[resident]
        hits = hits[hits != NONE]
        policy.used(hits, step)
        incoming = np.append(absent, newest) if where[newest] == NONE else absent
        if len(incoming):
            _seat(policy, where, position_at, hits, incoming, step)
    return misses


def _seat(policy: Policy, where: Ints, position_at: Ints, hits: Ints, incoming: Ints, step: int) -> None:
    may_go = np.ones(len(position_at), dtype=np.bool_)
    may_go[hits] = False
    empty = np.flatnonzero(position_at == NONE)[: len(incoming)]
    short = len(incoming) - len(empty)
    may_go[empty] = False
    taken = np.append(empty, policy.victims(short, may_go, step)) if short else empty
    gone = position_at[taken]
    where[gone[gone != NONE]] = NONE
    where[incoming], position_at[taken] = taken, incoming
    policy.used(taken, step)
    policy.seated(taken, incoming)
