"""Prefix reuse: which admitted request already holds rows for the beginning of another's context."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from hisparse_engine.request import Request

MIN_REUSED_TOKENS = 64
"""Below this, computing is as quick as copying."""


class PrefixMatch(NamedTuple):
    """``donor`` holds rows for the first ``num_tokens`` tokens of somebody's context."""

    donor: Request
    num_tokens: int


def longest_match(request: Request, donors: Iterable[Request]) -> PrefixMatch | None:
    """Find the donor whose computed rows cover most of ``request``'s context, or None when it is not worth it.

    At least one token is left to compute: its logits are needed.
    """
    context = np.array(request.context[:-1])
    best: PrefixMatch | None = None
    for donor in donors:
        if donor is request or donor.seat is None:
            continue
        count = _common(context, np.array((donor.prompt + tuple(donor.output))[: donor.seat.length]))
        if count >= request.num_computed + MIN_REUSED_TOKENS and (best is None or count > best.num_tokens):
            best = PrefixMatch(donor, count)
    return best


def _common(
    a: np.ndarray[tuple[int], np.dtype[np.int64]], b: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> int:
    shorter = min(len(a), len(b))
    different = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(different[0]) if len(different) else shorter
