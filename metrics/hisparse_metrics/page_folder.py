"""All pages of a folder at one moment: which to export, and why the others are left out. Knows no Prometheus.

A dead engine's page stays exported for a retention time, then it expires. The time runs from the moment this
process found the engine dead; for an engine it never saw alive, from the last sign of life in the page.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from hisparse_metrics import catalogue
from hisparse_metrics.cells import SCALAR_INDEX
from hisparse_metrics.page_claim import SUFFIX
from hisparse_metrics.page_layout import PageError
from hisparse_metrics.page_reader import PageSnapshot, read_page
from hisparse_metrics.stats import EngineIdentity

_log = logging.getLogger(__name__)
_LAST_STEP = SCALAR_INDEX[catalogue.ENGINE_LAST_STEP_TIMESTAMP_SECONDS.field]
DEFAULT_RETENTION_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class PageSet:
    """The pages to export, sorted by labels, and how many were skipped by reason."""

    pages: tuple[PageSnapshot, ...]
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def num_up(self) -> int:
        """Engines alive."""
        return sum(page.alive for page in self.pages)

    @property
    def last_step_timestamp(self) -> float | None:
        """Unix time of the newest step of a living engine; ``None`` without one."""
        return max((last_step_timestamp(page) for page in self.pages if page.alive), default=None)


def last_step_timestamp(page: PageSnapshot) -> float:
    """Return the Unix time of a page's last decode step."""
    return page.cells[_LAST_STEP]


def identity_labels(identity: EngineIdentity) -> tuple[str, ...]:
    """Return the values of the catalogue's engine labels, in their order."""
    return tuple(str(getattr(identity, label.name)) for label in catalogue.ENGINE_LABELS)


class PageFolder:
    """Reads a folder's pages afresh at every call; remembers only when it first found each engine dead.

    Safe for several threads. The folder need not exist yet.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention_seconds: float = DEFAULT_RETENTION_SECONDS,
        clock: Callable[[], float] = time.time,
        reports: bool = True,
    ) -> None:
        self.path = path
        self._reports = reports
        self._retention_seconds = retention_seconds
        self._clock = clock
        self._last_sign: dict[tuple[Path, float], float] = {}
        self._reported: dict[Path, str] = {}
        self._lock = Lock()

    def silent_twin(self) -> PageFolder:
        """Return another reader of the same folder, which neither waits for this one nor logs what this one logs."""
        return PageFolder(
            self.path, retention_seconds=self._retention_seconds, clock=self._clock, reports=False
        )

    def read(self) -> PageSet:
        """Return every page worth exporting; whatever cannot be read is counted, and logged once."""
        skipped: Counter[str] = Counter()
        with self._lock:
            pages = self._fresh(list(self._readable(skipped)), skipped)
        return PageSet(tuple(_newest_per_identity(pages, skipped)), skipped)

    def _readable(self, skipped: Counter[str]) -> Iterator[PageSnapshot]:
        errors: dict[Path, str] = {}
        for path in sorted(self.path.glob(f"*{SUFFIX}")):
            try:
                yield read_page(path)
            except PageError as error:
                skipped[error.reason] += 1
                errors[path] = str(error)
        self._report(errors)

    def _report(self, errors: dict[Path, str]) -> None:
        for path, message in errors.items():
            if self._reports and self._reported.get(path) != message:
                _log.warning("skipping stats page %s: %s", path, message)
        self._reported = errors

    def _fresh(self, pages: list[PageSnapshot], skipped: Counter[str]) -> list[PageSnapshot]:
        now = self._clock()
        before, self._last_sign = self._last_sign, {}
        for page in pages:
            key = (page.path, page.header.start_time)
            known = before.get(key, _last_written(page))
            self._last_sign[key] = now if page.alive else known
        fresh = [
            p for p in pages if now - self._last_sign[p.path, p.header.start_time] <= self._retention_seconds
        ]
        skipped["expired"] += len(pages) - len(fresh)
        return fresh


def _last_written(page: PageSnapshot) -> float:
    return max(page.header.start_time, last_step_timestamp(page))


def _newest_per_identity(pages: list[PageSnapshot], skipped: Counter[str]) -> list[PageSnapshot]:
    newest: dict[tuple[str, ...], PageSnapshot] = {}
    for page in sorted(pages, key=lambda page: page.header.start_time):
        newest[identity_labels(page.header.identity)] = page
    skipped["superseded"] += len(pages) - len(newest)
    return [page for _, page in sorted(newest.items())]
