"""The ledger: who holds which slots of the pools that keep a token's rows for its whole life, and what is shared.

A request *borrows* the slots of a prefix that the tree knows and *owns* those behind it. What it computes it may give
to the tree, where others can borrow it; shared rows are never written. Knows no tier: in the two-tier cache the pools
are host pool and index keys, in resident mode device pool and index keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.pool import Claim, TokenPool
from hisparse_engine.memory.prefix_tree import NO_TOKENS, Match, Node, PrefixTree, Tokens

MIN_SHARED_TOKENS = 16
"""A shorter prefix is computed: sharing it would only scatter the rows behind it."""


@dataclass(eq=False)
class Holding:
    """One request's claims, one a pool and of equal size; ``node`` ends the path of the tree that it keeps locked."""

    claims: tuple[Claim, ...]
    node: Node | None = None

    @property
    def length(self) -> int:
        """Rows that exist."""
        return self.claims[0].num_used


@dataclass(eq=False)
class SlotLedger:
    """Claims on ``pools``; ``shares`` tells whether prefixes are kept for others at all."""

    pools: tuple[TokenPool, ...]
    shares: bool = True
    tree: PrefixTree = field(init=False)

    def __post_init__(self) -> None:
        """Start with an empty tree."""
        self.tree = PrefixTree(len(self.pools))

    # ---- admission -------------------------------------------------------------------------------------------

    def can_admit(self, count: int, tokens: Tokens) -> bool:
        """Whether ``count`` slots a pool can be had, borrowed or owned, for a request that begins with ``tokens``."""
        match = self._useful_match(tokens)
        cached = self.tree.num_cached_in(match)
        return self._num_free() - cached >= count - match.length

    def admit(self, count: int, tokens: Tokens) -> Holding:
        """Claim ``count`` slots a pool; the prefix of ``tokens`` that the tree knows is borrowed, its rows exist."""
        holding = Holding(tuple(Claim() for _ in self.pools))
        self._borrow(holding, self._useful_match(tokens))
        if not self.extend(holding, count - holding.length):
            self.release(holding, NO_TOKENS)
            raise InvariantError(f"admit({count}) with {self._num_free()} slots free; ask can_admit first")
        return holding

    def extend(self, holding: Holding, count: int) -> bool:
        """Claim ``count`` more slots a pool, evicting cached prefixes for them; False, and no change, if too few."""
        if self._num_free() < count:
            return False
        self._evict_for(count)
        for pool, claim in zip(self.pools, holding.claims, strict=True):
            pool.extend(claim, count)
        return True

    def _num_free(self) -> int:
        return min(pool.num_unreserved for pool in self.pools)

    def _evict_for(self, count: int) -> None:
        shortfall = max(count - pool.num_free for pool in self.pools)
        if shortfall > 0:
            for pool, slots in zip(self.pools, self.tree.evict(shortfall), strict=True):
                pool.evict(slots)

    # ---- sharing ---------------------------------------------------------------------------------------------

    def share(self, holding: Holding, tokens: Tokens) -> None:
        """Give the rows of ``tokens``, all that the holding has so far, to the tree, and go on using them.

        What the tree has from somebody else stays owned here: rows that are in use stay where they are.
        """
        if not self.shares:
            return
        match = self.tree.match(tokens)
        if len(tokens) - match.length >= MIN_SHARED_TOKENS:
            self._give(holding, match, tokens)

    def catch_up(self, holding: Holding, tokens: Tokens) -> int:
        """Borrow what others have given since of ``tokens``; return how many rows exist now.

        The slots that were claimed for these rows are given back.
        """
        match = self._useful_match(tokens)
        if match.length >= holding.length + MIN_SHARED_TOKENS:
            self._borrow(holding, match)
        return holding.length

    def _borrow(self, holding: Holding, match: Match) -> None:
        if not match.length:
            return
        self._lock_instead(holding, match)
        assert holding.node is not None
        for pool, claim, slots in zip(
            self.pools, holding.claims, self.tree.slots_of(holding.node), strict=True
        ):
            pool.free(claim.borrow(slots[claim.num_used :]))

    def _give(self, holding: Holding, match: Match, tokens: Tokens) -> None:
        """Put what the tree lacks of ``tokens`` behind ``match``; nobody else can own it, or it would be there."""
        self._lock_instead(holding, match)
        new = [claim.slots[match.length : len(tokens)] for claim in holding.claims]
        holding.node = self.tree.append(holding.node or self.tree.root, tokens[match.length :], new)
        for claim in holding.claims:
            claim.give_away(match.length, len(tokens))

    def _useful_match(self, tokens: Tokens) -> Match:
        match = self.tree.match(tokens) if self.shares else None
        if match is None or match.length < MIN_SHARED_TOKENS:
            return Match(self.tree.root, 0, 0)
        return match

    def _lock_instead(self, holding: Holding, match: Match) -> None:
        """Lock a longer path before the shorter one is unlocked, so that nothing of it is evictable between."""
        before, holding.node = holding.node, self._lock(match) if match.length else None
        if before is not None:
            self._unlock(before)

    def _lock(self, match: Match) -> Node:
        before = self.tree.num_cached
        node = self.tree.lock(match)
        self._note_cached(before)
        return node

    def _unlock(self, node: Node) -> None:
        before = self.tree.num_cached
        self.tree.unlock(node)
        self._note_cached(before)

    def _note_cached(self, before: int) -> None:
        for pool in self.pools:
            pool.move_cached(self.tree.num_cached - before)

    # ---- the end ---------------------------------------------------------------------------------------------

    def release(self, holding: Holding, tokens: Tokens) -> None:
        """End a holding. The rows of ``tokens`` (what exists of it, or nothing) are kept in the tree as cached."""
        if self.shares and len(tokens) >= MIN_SHARED_TOKENS:
            match = self.tree.match(tokens)
            if match.length < len(tokens):
                self._give(holding, match, tokens)
        for pool, claim in zip(self.pools, holding.claims, strict=True):
            pool.release(claim)
        if holding.node is not None:
            self._unlock(holding.node)
            holding.node = None

    def reset(self) -> None:
        """Forget every claim and every prefix."""
        self.tree = PrefixTree(len(self.pools))
        for pool in self.pools:
            pool.reset()

    def audit(self, holdings: Sequence[Holding]) -> None:
        """Raise :class:`InvariantError` unless locks, borrowed slots and cached counts are those of the tree."""
        locks = Counter(node for h in holdings if h.node is not None for node in h.node.path())
        for node in self.tree.nodes():
            if node.num_locks != locks[node]:
                raise InvariantError(
                    f"prefix tree: {node.num_locks} locks, {locks[node]} requests build on it"
                )
        for holding in holdings:
            path = self.tree.slots_of(holding.node or self.tree.root)
            for claim, slots in zip(holding.claims, path, strict=True):
                borrowed = np.flatnonzero(~claim.owned)
                same = len(borrowed) == 0 or int(borrowed[-1]) < len(slots)
                if not same or not np.array_equal(claim.slots[borrowed], slots[borrowed]):
                    raise InvariantError("prefix tree: a request borrows other slots than its path has")
        cached = sum(len(node) for node in self.tree.nodes() if not node.num_locks)
        if any(pool.num_cached != cached for pool in self.pools) or cached != self.tree.num_cached:
            raise InvariantError(f"prefix tree: {cached} tokens are cached, the pools count another number")
