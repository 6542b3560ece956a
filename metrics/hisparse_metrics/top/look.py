"""What the user has chosen to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hisparse_metrics.top.order import Order
from hisparse_metrics.top.reading import RankKey
from hisparse_metrics.top.view import RankView


@dataclass(frozen=True, slots=True)
class Look:
    """``cursor`` is the chosen rank, ``None`` for whichever comes first."""

    order: Order = Order.FULL
    cursor: RankKey | None = None
    paused: bool = False
    help: bool = False


def place_of(cursor: RankKey | None, ranks: Sequence[RankView]) -> int:
    """Return where the chosen rank stands now; the first where none is chosen, or it has gone."""
    return next((index for index, rank in enumerate(ranks) if rank.key == cursor), 0)
