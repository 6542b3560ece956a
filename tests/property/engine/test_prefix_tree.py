"""The prefix tree beside a plain model: a set of sequences, one slot a token, and who builds on what."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hisparse_engine.memory.prefix_tree import Node, PrefixTree, Tokens

Sequence = tuple[int, ...]
sequences = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)


def tokens(sequence: Sequence) -> Tokens:
    return np.array(sequence, dtype=np.int32)


class TreeMachine(RuleBasedStateMachine):
    """``slots[prefix]`` is the slot of a prefix's last token; ``locks`` are paths that somebody builds on."""

    @initialize()
    def empty(self) -> None:
        self.tree = PrefixTree(2)
        self.slots: dict[Sequence, int] = {}
        self.locks: list[tuple[Sequence, Node]] = []
        self.next_slot = 0

    def known(self, sequence: Sequence) -> int:
        """Length of the longest known prefix."""
        return max((n for n in range(1, len(sequence) + 1) if sequence[:n] in self.slots), default=0)

    @rule(sequence=sequences)
    def build_on(self, sequence: Sequence) -> None:
        """Lock what is known of a sequence, and add the rest."""
        match = self.tree.match(tokens(sequence))
        assert match.length == self.known(sequence)
        unlocked = sum(not self._is_locked(sequence[:n]) for n in range(1, match.length + 1))
        assert self.tree.num_cached_in(match) == unlocked
        node = self.tree.lock(match) if match.length else self.tree.root
        new = np.arange(self.next_slot, self.next_slot + len(sequence) - match.length)
        self.next_slot += len(new)
        if len(new):
            node = self.tree.append(node, tokens(sequence[match.length :]), (new, new + 1000))
        for n, slot in zip(range(match.length + 1, len(sequence) + 1), new.tolist(), strict=True):
            self.slots[sequence[:n]] = slot
        self.locks.append((sequence, node))

    @precondition(lambda self: self.locks)
    @rule(which=st.integers(0, 50))
    def leave(self, which: int) -> None:
        self.tree.unlock(self.locks.pop(which % len(self.locks))[1])

    @rule(count=st.integers(0, 15))
    def evict(self, count: int) -> None:
        cached = sum(not self._is_locked(prefix) for prefix in self.slots)
        before = set(self.slots.values())
        first, second = (slots.tolist() for slots in self.tree.evict(count))
        assert len(first) == min(count, cached)
        assert second == [slot + 1000 for slot in first]
        assert set(first) <= before
        self.slots = {prefix: slot for prefix, slot in self.slots.items() if slot not in first}

    def _is_locked(self, prefix: Sequence) -> bool:
        return any(sequence[: len(prefix)] == prefix for sequence, _ in self.locks)

    @invariant()
    def every_prefix_is_found_with_its_slots(self) -> None:
        for sequence, node in self.locks:
            expected = [self.slots[sequence[:n]] for n in range(1, len(sequence) + 1)]
            assert [slots.tolist() for slots in self.tree.slots_of(node)] == [
                expected, [slot + 1000 for slot in expected],
            ]  # fmt: skip
        for prefix in self.slots:
            assert self.tree.match(tokens(prefix)).length == len(prefix)
        assert sorted(self.tree.all_slots()[0].tolist()) == sorted(self.slots.values())

    @invariant()
    def the_counts_are_right(self) -> None:
        locked = sum(self._is_locked(prefix) for prefix in self.slots)
        assert (self.tree.num_locked, self.tree.num_cached) == (locked, len(self.slots) - locked)


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def add(tree: PrefixTree, *sequence: int) -> None:
    node = tree.append(tree.root, tokens(sequence), (np.arange(len(sequence)),))
    tree.unlock(node)


def test_the_least_recently_used_leaf_is_evicted_from_its_tail() -> None:
    tree = PrefixTree(1)
    for first in (1, 2, 3):
        add(tree, first, 9, 9, 9)
    tree.unlock(tree.lock(tree.match(tokens((1, 9, 9, 9)))))
    assert len(tree.evict(6)[0]) == 6
    left = [tree.match(tokens((first, 9, 9, 9))).length for first in (1, 2, 3)]
    assert left == [4, 0, 2]


def test_a_parent_is_evicted_only_after_its_children() -> None:
    tree = PrefixTree(1)
    add(tree, 1, 2, 3, 4)
    branch = tree.lock(tree.match(tokens((1, 2))))
    end = tree.append(branch, tokens((7, 8)), (np.array([10, 11]),))
    tree.unlock(end)
    tree.evict(4)
    assert tree.match(tokens((1, 2, 3))).length == 2
    tree.evict(1)
    assert tree.match(tokens((1, 2))).length == 1
    assert tree.num_cached == 1
