"""One turn of the sidecar: lines out of the sources, into the state, saved, and only then visible.

Counters become visible after they are saved together with the positions, so that they never fall back when the
process is killed and started again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence

from hisparse_metrics.follow.follower import Follower
from hisparse_metrics.follow.source import LineBatch, Source, SourceStatus
from hisparse_metrics.follow.state import StateError
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.drain import DrainedPipe
from hisparse_metrics.sidecar.memory import recall, remember
from hisparse_metrics.sidecar.sources import source_label
from hisparse_metrics.sidecar.state import SidecarState
from hisparse_metrics.sidecar.views import Snapshot, SourceView

POLL_BYTES = 4 << 20
SAVE_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Pump:
    """Moves what is new from the sources to the collector. For one thread."""

    def __init__(
        self,
        follower: Follower,
        collector: SidecarCollector,
        *,
        patterns: Sequence[str] = (),
        stale_after: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.state = SidecarState()
        self.turns = 0
        self._follower = follower
        self._collector = collector
        self._patterns = patterns
        self._stale_after = stale_after
        self._clock = clock
        self._is_unsaved = False
        self._saved_at = 0.0
        self._failures = 0
        self._views = self.state.views()
        if recall(self.state, follower.extra):
            self._views = self.state.views()

    def turn(self) -> bool:
        """Read, count, save, publish. Return whether there is more to read at once."""
        now = self._clock()
        is_behind = False
        for source in self._follower.sources:
            batches = source.poll(POLL_BYTES)
            is_behind |= self._take(source, batches, now)
        self._look_for_ends(now)
        self._save(now)
        self.turns += 1
        return is_behind

    def finish(self) -> None:
        """Save and publish what has been read, whatever the time."""
        self._saved_at = 0.0
        self._save(self._clock())

    def _take(self, source: Source, batches: list[LineBatch], now: float) -> bool:
        lag = source.status().lag_bytes if batches else 0
        for batch in batches:
            self.state.take(batch, 0.0 if lag > POLL_BYTES else written_at(batch.source, now))
            self._is_unsaved = True
        return bool(lag)

    def _look_for_ends(self, now: float) -> None:
        """Notice input that ended, and silent files that are gone."""
        for source in self._follower.sources:
            if isinstance(source, DrainedPipe) and source.ended and not self.state.log(source.name).ended:
                self.state.end(source.name, now)
                self._is_unsaved = True
        for name, log in self.state.logs.items():
            is_quiet = log.last_line is not None and now - log.last_line > self._stale_after
            if is_quiet and not log.ended and name.startswith("/") and not os.path.lexists(name):
                log.ended = self._is_unsaved = True

    def _save(self, now: float) -> None:
        if (self._is_unsaved and now - self._saved_at >= SAVE_SECONDS) or now < self._saved_at:
            self._saved_at = now
            self._commit()
            self._views = self.state.views()
        self._collector.publish(Snapshot(self._views, self._source_views(), self._failures, self._problems()))

    def _commit(self) -> None:
        try:
            self._follower.commit(remember(self.state))
            self._is_unsaved = False
        except StateError as error:
            self._failures += 1
            if self._failures == 1:
                _log.error("%s; until then a restart repeats lines", error)

    def _source_views(self) -> tuple[SourceView, ...]:
        return tuple(
            _source_view(source_label(s.name, self._patterns), s.status()) for s in self._follower.sources
        )

    def _problems(self) -> frozenset[str]:
        """Return the paths that cannot be read."""
        found = (getattr(source, "problems", {}) for source in self._follower.sources)
        return frozenset(path for problems in found for path in problems)


def written_at(source: str, now: float) -> float:
    """Return when the newest line of ``source`` was written: an old file that is read now says nothing of now."""
    if not source.startswith("/"):
        return now
    try:
        return min(now, os.stat(source).st_mtime)  # noqa: PTH116 - once a batch, no object needed
    except OSError:
        return now


def _source_view(name: str, status: SourceStatus) -> SourceView:
    return SourceView(name, status.up, status.bytes_read, status.lag_bytes, status.counts.skipped_bytes)
