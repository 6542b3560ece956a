"""The prefix tree: which token sequences have rows, and in which slots. Pure accounting; holds no tensor.

A radix tree over token ids (after RadixAttention, arXiv:2312.07104). A node is a run of tokens with one slot a token in
each pool. Requests lock the path that they build on; what nobody locks is cached, and is evicted from the tail of the
leaf that was used least recently. Nodes are cut where a match ends, so any number of tokens can be shared.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
Slots = npt.NDArray[np.int64]
NO_TOKENS: Tokens = np.empty(0, dtype=np.int32)


class Node:
    """A run of tokens below ``parent``; ``slots[pool][i]`` holds the row of ``tokens[i]``. The root has none."""

    __slots__ = ("children", "last_use", "num_locks", "parent", "slots", "tokens")

    def __init__(self, tokens: Tokens, slots: tuple[Slots, ...], parent: Node | None) -> None:
        self.tokens = tokens
        self.slots = slots
        self.parent = parent
        self.children: dict[int, Node] = {}
        self.num_locks = 0
        self.last_use = 0

    def __len__(self) -> int:
        return len(self.tokens)

    def path(self) -> Iterator[Node]:
        """Yield this node and its ancestors, without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent


class Match(NamedTuple):
    """The longest known prefix: it ends with the first ``offset`` tokens of ``node``; ``length`` tokens in all."""

    node: Node
    offset: int
    length: int


class PrefixTree:
    """Sequences and their slots in ``num_pools`` pools, locked or cached."""

    def __init__(self, num_pools: int) -> None:
        none = np.empty(0, dtype=np.int64)
        self._root = Node(np.empty(0, dtype=np.int32), (none,) * num_pools, None)
        self._clock = 0
        self.num_locked = 0
        """Tokens that somebody builds on."""
        self.num_cached = 0
        """Tokens that nobody builds on: they can be evicted."""

    # ---- looking ---------------------------------------------------------------------------------------------

    def match(self, tokens: Tokens) -> Match:
        """Find the longest prefix of ``tokens``; changes nothing."""
        node, length = self._root, 0
        while length < len(tokens) and (child := node.children.get(int(tokens[length]))):
            common = _common(child.tokens, tokens[length:])
            length += common
            if common < len(child):
                return Match(child, common, length)
            node = child
        return Match(node, len(node), length)

    def num_cached_in(self, match: Match) -> int:
        """Return how many of a match's tokens nobody has locked yet."""
        above = sum(len(node) for node in match.node.path() if node is not match.node and not node.num_locks)
        return above + (0 if match.node.num_locks else match.offset)

    def slots_of(self, node: Node) -> tuple[Slots, ...]:
        """Return the slots of the whole sequence that ends with ``node``, a pool each."""
        path = [*node.path()][::-1]
        return tuple(
            np.concatenate([each.slots[pool] for each in path]) if path else self._root.slots[pool]
            for pool in range(len(self._root.slots))
        )

    def all_slots(self) -> tuple[Slots, ...]:
        """Return every slot that the tree owns, a pool each."""
        nodes = [*self.nodes()]
        return tuple(
            np.concatenate([self._root.slots[pool], *(node.slots[pool] for node in nodes)])
            for pool in range(len(self._root.slots))
        )

    # ---- locking ---------------------------------------------------------------------------------------------

    def lock(self, match: Match) -> Node:
        """Build on a match: cut its last node where the match ends, keep the path, and return its last node."""
        node = match.node if match.offset == len(match.node) else self._cut(match.node, match.offset)
        self._clock += 1
        for each in node.path():
            if not each.num_locks:
                self._move_cached(-len(each))
            each.num_locks += 1
            each.last_use = self._clock
        return node

    def unlock(self, node: Node) -> None:
        """Take back one lock of the path that ends with ``node``."""
        self._clock += 1
        for each in node.path():
            each.num_locks -= 1
            each.last_use = self._clock
            if not each.num_locks:
                self._move_cached(len(each))

    def _move_cached(self, count: int) -> None:
        self.num_cached += count
        self.num_locked -= count

    # ---- growing and shrinking -------------------------------------------------------------------------------

    def append(self, node: Node, tokens: Tokens, slots: Sequence[Slots]) -> Node:
        """Add ``tokens``, which no child of ``node`` begins with, below a locked path; the lock moves to the new end.

        ``node`` must be locked by the caller, or the root; the caller's lock then is on the node returned.
        """
        assert len(tokens), "a node has tokens"
        assert int(tokens[0]) not in node.children, "the tokens are in the tree already"
        child = Node(tokens.copy(), tuple(each.copy() for each in slots), node)
        node.children[int(tokens[0])] = child
        self._clock += 1
        child.num_locks, child.last_use = 1, self._clock
        self.num_locked += len(child)
        return child

    def evict(self, count: int) -> tuple[Slots, ...]:
        """Drop ``count`` cached tokens (fewer when there are fewer) and return their slots, a pool each."""
        freed: list[tuple[Slots, ...]] = []
        leaves = [(leaf.last_use, id(leaf), leaf) for leaf in self.nodes() if _is_evictable(leaf)]
        heapq.heapify(leaves)
        while count > 0 and leaves:
            _, _, leaf = heapq.heappop(leaves)
            taken = min(count, len(leaf))
            count -= taken
            freed.append(tuple(slots[len(leaf) - taken :] for slots in leaf.slots))
            self._shorten(leaf, taken)
            parent = leaf.parent
            if not len(leaf) and parent is not None and parent.parent is not None and _is_evictable(parent):
                heapq.heappush(leaves, (parent.last_use, id(parent), parent))
        return tuple(
            np.concatenate([self._root.slots[pool], *(slots[pool] for slots in freed)])
            for pool in range(len(self._root.slots))
        )

    def _shorten(self, leaf: Node, count: int) -> None:
        self.num_cached -= count
        first = int(leaf.tokens[0])
        leaf.tokens = leaf.tokens[: len(leaf.tokens) - count]
        leaf.slots = tuple(slots[: len(slots) - count] for slots in leaf.slots)
        if not len(leaf) and leaf.parent is not None:
            del leaf.parent.children[first]

    def _cut(self, node: Node, at: int) -> Node:
        """Split ``node`` into its first ``at`` tokens, which are returned, and the rest below them."""
        assert node.parent is not None, "the root has no tokens to cut"
        upper = Node(node.tokens[:at], tuple(slots[:at] for slots in node.slots), node.parent)
        upper.num_locks, upper.last_use = node.num_locks, node.last_use
        node.parent.children[int(node.tokens[0])] = upper
        node.tokens = node.tokens[at:]
        node.slots = tuple(slots[at:] for slots in node.slots)
        node.parent = upper
        upper.children = {int(node.tokens[0]): node}
        return upper

    def nodes(self) -> Iterator[Node]:
        """Yield every node but the root."""
        stack = [*self._root.children.values()]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    @property
    def root(self) -> Node:
        """The empty sequence."""
        return self._root


def _is_evictable(node: Node) -> bool:
    return not node.children and not node.num_locks


def _common(a: Tokens, b: Tokens) -> int:
    shorter = min(len(a), len(b))
    different = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(different[0]) if len(different) else shorter
