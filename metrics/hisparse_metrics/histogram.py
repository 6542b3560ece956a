"""A histogram as counts by bucket: from a page's cells or a series' samples, its recent part, and quantiles of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import add, sub

from hisparse_metrics.cells import HISTOGRAM_SPANS
from hisparse_metrics.metric import Metric
from hisparse_metrics.page_reader import PageSnapshot


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many observations fell into each bucket (not cumulative): one more than ``bounds``, the last without bound."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @classmethod
    def of_page(cls, page: PageSnapshot, metric: Metric) -> Histogram:
        """Return what a page has observed of ``metric`` so far."""
        span = HISTOGRAM_SPANS[metric.field]
        return cls(span.bounds, page.cells[span.first : span.sum])

    @classmethod
    def of_samples(cls, cumulative: Iterable[tuple[float, float]]) -> Histogram | None:
        """Return the buckets of an exposition, (upper bound, observations up to it) in any order; ``None`` of none."""
        pairs = sorted(cumulative)
        if not pairs:
            return None
        counts = tuple(b - a for a, b in pairwise([0.0, *(count for _, count in pairs)]))
        bounds = tuple(bound for bound, _ in pairs if bound < math.inf)
        return cls(bounds, counts if len(counts) > len(bounds) else (*counts, 0.0))

    def since(self, before: Histogram) -> Histogram:
        """Return what was observed after ``before``, which is the same histogram earlier."""
        return Histogram(self.bounds, tuple(map(sub, self.counts, before.counts)))


def merged(histograms: Sequence[Histogram]) -> Histogram | None:
    """Return all observations together; ``None`` of nothing."""
    if not histograms:
        return None
    counts = histograms[0].counts
    for histogram in histograms[1:]:
        counts = tuple(map(add, counts, histogram.counts))
    return Histogram(histograms[0].bounds, counts)


def quantile(q: float, histogram: Histogram | None) -> float | None:
    """Estimate a quantile as Prometheus does: evenly spread within a bucket, the last bound where there is no more.

    ``None`` without observations.
    """
    total = sum(histogram.counts) if histogram else 0.0
    if histogram is None or total <= 0:
        return None
    rank, below, lower = q * total, 0.0, 0.0
    for upper, count in zip(histogram.bounds, histogram.counts, strict=False):
        if count > 0 and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below += count
        lower = upper
    return lower
