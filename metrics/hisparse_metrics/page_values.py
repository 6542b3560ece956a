"""A stats page as values by metric name: for those who show an engine without a Prometheus client in between."""

from __future__ import annotations

from collections.abc import Mapping

from hisparse_metrics import catalogue
from hisparse_metrics.cells import SCALAR_INDEX
from hisparse_metrics.metric import Kind
from hisparse_metrics.page_reader import PageSnapshot
from hisparse_metrics.stats import usage

_SCALARS: Mapping[str, int] = {
    metric.name: SCALAR_INDEX[metric.field]
    for metric in catalogue.PAGE
    if metric.kind is not Kind.HISTOGRAM and not metric.labels
}
_USAGES: Mapping[str, tuple[int, int]] = {
    metric.name: (SCALAR_INDEX[metric.ratio_of[0]], SCALAR_INDEX[metric.ratio_of[1]])
    for metric in catalogue.ALL
    if metric.ratio_of
}


def page_values(page: PageSnapshot) -> dict[str, float]:
    """Return every count and level of a page, and the usage of each pool that exists: of capacity 0 there is none."""
    cells = page.cells
    values = {name: cells[index] for name, index in _SCALARS.items()}
    for name, (used, capacity) in _USAGES.items():
        if cells[capacity] > 0:
            values[name] = usage(cells[used], cells[capacity])
    return values
