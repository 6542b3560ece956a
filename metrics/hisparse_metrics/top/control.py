"""What a key changes about the look. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hisparse_metrics.top.keys import Key
from hisparse_metrics.top.look import Look, place_of
from hisparse_metrics.top.order import arranged
from hisparse_metrics.top.view import RankView

_EVERYTHING = 1 << 30


def applied(look: Look, key: Key, ranks: Sequence[RankView], page: int) -> Look:
    """Return the look after ``key``; ``page`` is how many ranks a page is."""
    match key:
        case Key.SORT:
            return replace(look, order=look.order.next, cursor=None)
        case Key.PAUSE:
            return replace(look, paused=not look.paused)
        case Key.HELP:
            return replace(look, help=not look.help)
        case Key.BACK:
            return replace(look, help=False)
    steps = {
        Key.UP: -1, Key.DOWN: 1, Key.PAGE_UP: -page, Key.PAGE_DOWN: page, Key.FIRST: -_EVERYTHING, Key.LAST: _EVERYTHING,
    }  # fmt: skip
    return _moved(look, steps[key], ranks) if key in steps else look


def _moved(look: Look, step: int, ranks: Sequence[RankView]) -> Look:
    """Choose another rank; the first one is whichever comes first, so that the worst stays chosen until one is."""
    if not ranks:
        return look
    order = arranged(ranks, look.order)
    place = min(max(place_of(look.cursor, order) + step, 0), len(order) - 1)
    return replace(look, cursor=order[place].key if place else None)
