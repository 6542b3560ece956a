"""What an endpoint is about: a collector, and words and facts about where its numbers come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client.registry import Collector

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.page_folder import PageFolder


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Served:
    """``facts`` is what ``/healthz`` tells; ``is_ready`` decides ``/-/ready``. Neither may wait for a source."""

    collector: Collector
    about: str
    facts: Callable[[], Mapping[str, object]]
    is_ready: Callable[[], bool] = _always


def served_pages(collector: PageCollector, *, clock: Callable[[], float] = time.time) -> Served:
    """Describe the pages of a folder. ``clock`` gives Unix seconds."""
    folder = collector.folder
    return Served(collector, f"the stats pages in {folder.path}", lambda: page_facts(folder, clock()))


def page_facts(folder: PageFolder, now: float) -> dict[str, object]:
    """Return how many pages there are, how many engines are up, and how long ago one of them stepped."""
    found = folder.read()
    newest = found.last_step_timestamp
    return {
        "pages": len(found.pages),
        "up": found.num_up,
        "last_step_age_seconds": None if newest is None else round(now - newest, 3),
        "skipped": {reason: count for reason, count in sorted(found.skipped.items()) if count},
    }
