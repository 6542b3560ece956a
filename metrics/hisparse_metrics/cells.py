"""Which cell of a stats page holds what: the catalogue's order turned into indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Kind, Metric


@dataclass(frozen=True, slots=True)
class Span:
    """One histogram's cells: a count per bucket (``first`` to ``overflow``, not cumulative), then the sum."""

    first: int
    bounds: tuple[float, ...]

    @property
    def sum(self) -> int:
        """Index of the cell with the sum of all observations."""
        return self.first + len(self.bounds) + 1

    def cumulative(self, cells: Sequence[float]) -> list[float]:
        """Return the observations at or below each bound, and last of all of them."""
        return list(accumulate(cells[self.first : self.sum]))


_HISTOGRAMS: tuple[Metric, ...] = tuple(m for m in catalogue.PAGE if m.kind is Kind.HISTOGRAM)

SCALAR_FIELDS: tuple[str, ...] = tuple(
    field for metric in catalogue.PAGE if metric.kind is not Kind.HISTOGRAM for _, field in metric.samples
)
"""Fields of the first cells, one cell each."""

SCALAR_INDEX: dict[str, int] = {field: index for index, field in enumerate(SCALAR_FIELDS)}


def _spans() -> dict[str, Span]:
    ends = accumulate((metric.num_cells for metric in _HISTOGRAMS), initial=len(SCALAR_FIELDS))
    return {m.field: Span(first, m.buckets) for m, first in zip(_HISTOGRAMS, ends, strict=False)}


HISTOGRAM_SPANS: dict[str, Span] = _spans()
"""The histograms' cells by field, after the scalars."""
