"""From misses a step to the locality model's turnover: the table that `eviction.py --calibrate` measured."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "results" / "eviction_calibration.json"


class Point(NamedTuple):
    """Exact LRU missed ``misses`` rows a step in a buffer of ``buffer`` when ``turnover`` of the strata drew again."""

    context: int
    buffer: int
    turnover: float
    misses: float


def read_table(path: Path = TABLE) -> list[Point]:
    """Return the measured points."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [Point(row["context"], row["buffer"], row["turnover"], row["misses"]) for row in rows]


def turnover_for(misses: float, context: int, buffer: int, table: Sequence[Point]) -> float:
    """Return the turnover that costs a request ``misses`` rows a step in each group, beyond the table's ends clamped.

    Between two points the logarithms are interpolated; the nearest context and buffer of the table are taken.
    """
    if misses <= 0:
        return 0.0
    nearest = min(
        table, key=lambda point: (abs(log(point.context / context)), abs(log(point.buffer / buffer)))
    )
    points = sorted((p for p in table if (p.context, p.buffer) == nearest[:2]), key=lambda p: p.misses)
    place = bisect_left([point.misses for point in points], misses)
    if place in (0, len(points)):
        return points[min(place, len(points) - 1)].turnover
    low, high = points[place - 1], points[place]
    share = log(misses / low.misses) / log(high.misses / low.misses)
    return exp(log(low.turnover) + share * log(high.turnover / low.turnover))
