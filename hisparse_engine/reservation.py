"""How much a request is promised before it starts: the growth that admission accounts for."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from hisparse_engine.request import Request

GROWTH_TOKENS = 64
"""A request that outgrows its promise gets this many more slots at a time."""

_WINDOW = 1024


class Reservation(Protocol):
    """A policy; the promise is in KV rows and never above ``request.max_tokens``."""

    def promise(self, request: Request) -> int:
        """Return how many rows to reserve for a request about to be admitted."""

    def observe(self, num_new_tokens: int) -> None:
        """Learn how many tokens a finished request generated."""


class WorstCase:
    """Promise everything that a request may come to need: nothing ever has to be taken back."""

    def promise(self, request: Request) -> int:
        """Return the request's maximum."""
        return request.max_tokens

    def observe(self, num_new_tokens: int) -> None:
        """Learn nothing: the worst case is known."""


class Quantile:
    """Promise what the given share of recent answers needed; the rest grow, and retraction is the safety net.

    Until an answer has been seen the worst case is promised.
    """

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._lengths: deque[int] = deque(maxlen=_WINDOW)

    def promise(self, request: Request) -> int:
        """Return prompt plus the quantile of answers, or plus what the request has already generated and some more."""
        if not self._lengths:
            return request.max_tokens
        ordered = sorted(self._lengths)
        expected = ordered[min(int(self._quantile * len(ordered)), len(ordered) - 1)]
        new_tokens = max(expected, len(request.output) + GROWTH_TOKENS)
        return min(len(request.prompt) + new_tokens, request.max_tokens)

    def observe(self, num_new_tokens: int) -> None:
        """Add an answer's length to the recent ones."""
        self._lengths.append(num_new_tokens)


def make_reservation(policy: str, quantile: float) -> Reservation:
    """Return the policy of that name."""
    return WorstCase() if policy == "worst-case" else Quantile(quantile)
