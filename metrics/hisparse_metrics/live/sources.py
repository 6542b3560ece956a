"""Which readings belong to a collector: those of its pages, of its logs, or of both."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.registry import Collector

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.live.log_readings import LogReadings
from hisparse_metrics.live.page_readings import PageReadings
from hisparse_metrics.live.reading import RankReading, Readings
from hisparse_metrics.sidecar.collector import SidecarCollector


def readings_of(collector: Collector) -> Readings:
    """Return what reads the ranks that ``collector`` exports; nothing for a collector of something else."""
    match collector:
        case PageCollector():
            # A folder object of its own, so that neither waits for the other's lock.
            return PageReadings(collector.folder.silent_twin())
        case SidecarCollector(pages=None):
            return LogReadings(collector)
        case SidecarCollector(pages=PageCollector() as pages):
            return _Both(readings_of(pages), LogReadings(collector))
    return lambda: ()


class _Both:
    def __init__(self, *parts: Readings) -> None:
        self._parts = parts

    def __call__(self) -> Sequence[RankReading]:
        return [reading for part in self._parts for reading in part()]
