"""A curve's points as one value a column: columns of equal time, aligned to the clock so that bars do not flicker."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hisparse_metrics.top.history import CURVE_SECONDS, CurvePoint

_SPANS = (60.0, 120.0, 300.0, 600.0, CURVE_SECONDS)


_BRIDGED = 2


def seconds_of(curve: Sequence[CurvePoint], width: int, interval: float) -> float:
    """Return how long a column of a chart of this width is; none is shorter than the pace of the points."""
    return max(span_of(curve) / max(width, 1), interval, 1.0)


def span_of(curve: Sequence[CurvePoint]) -> float:
    """Return the seconds to show: the shortest span that holds the curve, so that a young one fills its chart."""
    age = curve[-1].moment - curve[0].moment if curve else 0.0
    return next((span for span in _SPANS if age <= span), _SPANS[-1])


def columns(
    curve: Sequence[CurvePoint],
    value: Callable[[CurvePoint], float | None],
    width: int,
    seconds: float,
) -> list[float | None]:
    """Return the mean of the points in each column of so many seconds, oldest first; ``None`` where there is none."""
    if not curve or width <= 0:
        return [None] * max(width, 0)
    last = math.floor(curve[-1].moment / seconds)
    sums, counts = [0.0] * width, [0] * width
    seen = [False] * width
    for point in curve:
        column = width - 1 - (last - math.floor(point.moment / seconds))
        if column < 0:
            continue
        seen[column] = True
        if (number := value(point)) is not None:
            sums[column] += number
            counts[column] += 1
    means = [total / count if count else None for total, count in zip(sums, counts, strict=True)]
    return _bridged(means, seen)


def _bridged(means: list[float | None], seen: list[bool]) -> list[float | None]:
    """Carry a value over columns into which no reading fell, for readings are not quite regular; never over many."""
    bridged, missing = list(means), 0
    for column in range(1, len(means)):
        missing = 0 if seen[column] else missing + 1
        if 0 < missing <= _BRIDGED:
            bridged[column] = bridged[column - 1]
    return bridged
