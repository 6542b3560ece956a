"""What was observed lately, out of histograms that only ever grow."""

from __future__ import annotations

from collections import deque

from hisparse_metrics.histogram import Histogram

WINDOW_SECONDS = 10.0
"""How far back a quantile looks: a second of a slow engine has too few steps for a p99."""


class RecentCounts:
    """The observations of the last :data:`WINDOW_SECONDS`, by bucket."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, Histogram]] = deque()

    def advance(self, time: float, histogram: Histogram | None) -> Histogram | None:
        """Take in the observations so far at ``time``; return the recent ones, ``None`` without any before."""
        if histogram is None:
            self._past.clear()
            return None
        self._past.append((time, histogram))
        while len(self._past) > 2 and self._past[1][0] <= time - WINDOW_SECONDS:
            self._past.popleft()
        if len(self._past) < 2:
            return None
        return histogram.since(self._past[0][1])

    def restart(self, time: float) -> None:
        """Begin at nothing observed: another process counts from zero."""
        if self._past:
            _, last = self._past.pop()
            self._past.clear()
            self._past.append((time, Histogram(last.bounds, (0.0,) * len(last.counts))))
