"""Logs and stats pages in one exposition: one family per metric, built afresh at every scrape, from memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from hisparse_metrics import catalogue
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.sidecar.families import build
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.views import Snapshot


class SidecarCollector(Collector):
    """Exports the snapshot published last; with ``pages`` also the engines of a stats folder.

    ``clock`` gives Unix seconds; levels older than ``stale_after`` seconds are not exported.
    """

    def __init__(
        self,
        labels: EngineLabels,
        stale_after: float,
        *,
        pages: PageCollector | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pages = pages
        self.snapshot = Snapshot()
        self._labels = labels
        self._stale_after = stale_after
        self._clock = clock

    def publish(self, snapshot: Snapshot) -> None:
        """Let later scrapes see ``snapshot``. One assignment: safe beside any number of scrapes."""
        self.snapshot = snapshot

    def log_families(self) -> dict[str, Family]:
        """Return the families of the logs alone, as they are true now, by metric name."""
        return build(self.snapshot, self._labels, self._clock(), self._stale_after)

    def collect(self) -> Iterator[Family]:
        """Yield the families that have samples now, in catalogue order."""
        of_logs = self.log_families()
        of_pages = {family.name: family for family in self.pages.collect()} if self.pages else {}
        for metric in catalogue.ALL:
            family = _merged(of_pages.get(_family_name(metric.name)), of_logs.get(metric.name))
            if family is not None:
                yield family


def _merged(pages: Family | None, logs: Family | None) -> Family | None:
    """Return one family with the samples of both; pages never have a ``source`` label, logs always do."""
    if pages is None or logs is None:
        return pages or logs
    pages.samples.extend(logs.samples)
    return pages


def _family_name(name: str) -> str:
    return name.removesuffix("_total").removesuffix("_info")
