"""Stats pages as readings: straight from the cells, one read of each page."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hisparse_metrics import catalogue
from hisparse_metrics.histogram import Histogram
from hisparse_metrics.page_folder import PageFolder, PageSet, identity_labels
from hisparse_metrics.page_reader import PageSnapshot
from hisparse_metrics.page_values import page_values
from hisparse_metrics.top.reading import Engine, RankKey, RankSample, ReadError, Reading

_LEVELS = frozenset(metric.name for metric in catalogue.ALL if metric.is_level)


class PageSource:
    """The engines that publish in a folder, which need not exist yet."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        moment: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = PageFolder(path, clock=clock)
        self._clock, self._moment = clock, moment

    @property
    def about(self) -> str:
        """The folder."""
        return str(self._folder.path)

    def read(self) -> Reading:
        """Read every page once."""
        path = self._folder.path
        if path.exists() and not (path.is_dir() and os.access(path, os.R_OK | os.X_OK)):
            raise ReadError(f"cannot read stats folder {path}: not a readable folder")
        found = self._folder.read()
        ranks = tuple(_sample(page) for page in found.pages)
        return Reading(self._clock(), self._moment(), ranks, _note(found, path))


def _sample(page: PageSnapshot) -> RankSample:
    values = {name: value for name, value in page_values(page).items() if page.alive or name not in _LEVELS}
    values[catalogue.ENGINE_UP.name] = float(page.alive)
    values[catalogue.ENGINE_START_TIME_SECONDS.name] = page.header.start_time
    identity = page.header.identity
    return RankSample(
        RankKey(*identity_labels(identity)),
        Engine.HISPARSE,
        values,
        Histogram.of_page(page, catalogue.DECODE_STEP_SECONDS),
        {label.name: str(getattr(identity, label.name)) for label in catalogue.INFO_LABELS},
    )


def _note(found: PageSet, path: Path) -> str:
    """Say why an engine that somebody looks for may be missing."""
    left_out: Counter[str] = Counter()
    for reason, count in found.skipped.items():
        if reason not in _EXPECTED:
            left_out[_REASONS.get(reason, reason)] += count
    if left_out.total():
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()) if count)
        return f"stats pages left out: {reasons}"
    if found.pages:
        return ""
    return f"no engine publishes in {path}; give an address or --stats-dir to look elsewhere"


_EXPECTED = ("superseded", "expired")
"""Left out because another page or time has overtaken them."""
_REASONS = {"catalogue": "of another release", "layout": "of another release", "garbage": "damaged"}
