"""Stats pages as Prometheus metric families, built afresh at every scrape.

A custom collector on a registry of its own: nothing is registered globally and no client-side value is kept, so
``PROMETHEUS_MULTIPROC_DIR`` has no effect. Of a dead engine the counters and histograms stay as they were, while
its levels are left out: a dead engine holds no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from hisparse_metrics import catalogue
from hisparse_metrics.cells import HISTOGRAM_SPANS, SCALAR_INDEX
from hisparse_metrics.metric import Kind, Metric, Origin
from hisparse_metrics.page_folder import PageFolder, PageSet, identity_labels
from hisparse_metrics.page_reader import PageSnapshot
from hisparse_metrics.stats import usage

_LabelledPage = tuple[tuple[str, ...], PageSnapshot]


class PageCollector(Collector):
    """Exports every page of a folder. Register it on a ``CollectorRegistry``, or pass it to ``generate_latest``."""

    def __init__(self, folder: PageFolder) -> None:
        self.folder = folder

    def collect(self) -> Iterator[Family]:
        """Yield the families that have samples now, in catalogue order."""
        found = self.folder.read()
        pages = [(identity_labels(page.header.identity), page) for page in found.pages]
        for metric in catalogue.ALL:
            family = _family(metric, pages, found)
            if family.samples:
                yield family


def _family(metric: Metric, pages: list[_LabelledPage], found: PageSet) -> Family:
    match metric.origin, metric.kind:
        case Origin.CELLS, Kind.HISTOGRAM:
            return _histogram(metric, pages)
        case Origin.PAGE, Kind.INFO:
            return _info(metric, pages)
        case ((Origin.CELLS | Origin.PAGE), _):
            return _scalar(metric, pages)
        case Origin.EXPORTER, _:
            return _skipped(metric, found)
    return _empty(metric)


def _scalar(metric: Metric, pages: Iterable[_LabelledPage]) -> Family:
    family = _empty(metric)
    readings = [(values, _reading(metric, field)) for values, field in metric.samples]
    for identity, page in pages:
        if page.alive or not metric.is_level:
            for values, read in readings:
                family.add_metric([*identity, *values], read(page))
    return family


def _reading(metric: Metric, field: str) -> Callable[[PageSnapshot], float]:
    """Return how to get one sample's value out of a page."""
    if metric.ratio_of:
        used, capacity = (SCALAR_INDEX[name] for name in metric.ratio_of)
        return lambda page: usage(page.cells[used], page.cells[capacity])
    if metric.origin is Origin.PAGE:
        return _FROM_PAGE[metric.name]
    index = SCALAR_INDEX[field]
    return lambda page: page.cells[index]


_FROM_PAGE: dict[str, Callable[[PageSnapshot], float]] = {
    catalogue.ENGINE_UP.name: lambda page: float(page.alive),
    catalogue.ENGINE_START_TIME_SECONDS.name: lambda page: page.header.start_time,
}


def _histogram(metric: Metric, pages: Iterable[_LabelledPage]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.label_names, unit=_unit(metric))
    span = HISTOGRAM_SPANS[metric.field]
    names = [*map(floatToGoString, span.bounds), "+Inf"]
    for identity, page in pages:
        counts = span.cumulative(page.cells)
        family.add_metric(identity, list(zip(names, counts, strict=True)), page.cells[span.sum])
    return family


def _info(metric: Metric, pages: Iterable[_LabelledPage]) -> Family:
    names = [label.name for label in metric.identity]
    family = InfoMetricFamily(_family_name(metric), metric.help, labels=names)
    for identity, page in pages:
        family.add_metric(
            identity, {label.name: getattr(page.header.identity, label.name) for label in metric.labels}
        )
    return family


def _skipped(metric: Metric, found: PageSet) -> Family:
    family = _empty(metric)
    for values, _ in metric.samples:
        family.add_metric(values, found.skipped[values[0]])
    return family


def _empty(metric: Metric) -> GaugeMetricFamily | CounterMetricFamily:
    family = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    return family(_family_name(metric), metric.help, labels=metric.label_names, unit=_unit(metric))


def _family_name(metric: Metric) -> str:
    """Return the name without the suffix that the client library appends."""
    return metric.name.removesuffix("_total").removesuffix("_info")


def _unit(metric: Metric) -> str:
    """Return the unit where OpenMetrics lets a family declare it: at the end of its name."""
    return metric.unit.value if _family_name(metric).endswith(f"_{metric.unit}") else ""
