"""Quantiles of what was observed lately, out of histograms that only ever grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import add, sub

from hisparse_metrics.live.columns import NAN
from hisparse_metrics.live.reading import Histogram

WINDOW_SECONDS = 10.0
"""How far back a quantile looks: a second of a slow engine has too few steps for a p99."""


class RecentCounts:
    """The observations of the last :data:`WINDOW_SECONDS`, by bucket."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, Sequence[float]]] = deque()

    def advance(self, time: float, histogram: Histogram | None) -> Histogram | None:
        """Take in the observations so far at ``time``; return the recent ones, ``None`` without any before."""
        if histogram is None:
            self._past.clear()
            return None
        self._past.append((time, histogram.counts))
        while len(self._past) > 2 and self._past[1][0] <= time - WINDOW_SECONDS:
            self._past.popleft()
        if len(self._past) < 2:
            return None
        oldest = self._past[0][1]
        return Histogram(histogram.bounds, list(map(sub, histogram.counts, oldest)))

    def restart(self, time: float) -> None:
        """Begin at nothing observed: another process counts from zero."""
        width = len(self._past[-1][1]) if self._past else 0
        self._past.clear()
        if width:
            self._past.append((time, (0.0,) * width))


def merged(histograms: Sequence[Histogram]) -> Histogram | None:
    """Return all observations together; ``None`` of nothing."""
    if not histograms:
        return None
    counts: Sequence[float] = histograms[0].counts
    for histogram in histograms[1:]:
        counts = list(map(add, counts, histogram.counts))
    return Histogram(histograms[0].bounds, counts)


def quantile(q: float, histogram: Histogram | None) -> float:
    """Estimate a quantile as Prometheus does: evenly spread within a bucket, the last bound where there is no more."""
    total = sum(histogram.counts) if histogram else 0.0
    if histogram is None or total <= 0:
        return NAN
    rank, below, lower = q * total, 0.0, 0.0
    for upper, count in zip(histogram.bounds, histogram.counts, strict=False):
        if count > 0 and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below += count
        lower = upper
    return histogram.bounds[-1]
