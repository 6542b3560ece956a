"""One turn of the sidecar: lines out of the sources, into the state, saved, and only then visible.

Counters become visible after they are saved together with the positions, so that they never fall back when the
process is killed and started again.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest

from hisparse_metrics.follow.follower import Follower
from hisparse_metrics.follow.source import LineBatch, Source, SourceStatus
from hisparse_metrics.follow.state import StateError
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.drain import DrainedPipe
from hisparse_metrics.sidecar.memory import recall, remember
from hisparse_metrics.sidecar.sources import JOURNAL, source_label
from hisparse_metrics.sidecar.state import SidecarState
from hisparse_metrics.sidecar.views import LogView, Snapshot, SourceView

POLL_BYTES = 1 << 20
BACKLOG_BYTES = 4 << 20
"""What is read with more than this behind it says nothing of now."""

SAVE_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_JOURNAL_TIME = re.compile(rb'"__REALTIME_TIMESTAMP"\s*:\s*"([0-9]{10,18})"')
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
        self._is_unsaved = self._is_behind = False
        self._logs: tuple[LogView, ...] | None = None
        self._saved_at = self._published_at = 0.0
        self._failures = 0
        self._next_look = 0.0
        if recall(self.state, follower.extra):  # a scrape before the first turn finds no counter missing
            collector.publish(Snapshot(self.state.views()))

    def turn(self) -> bool:
        """Read, count, save, publish. Return whether there is more to read at once."""
        now = self._clock()
        is_behind = False
        for source in self._follower.sources:
            batches = source.poll(POLL_BYTES)
            is_behind |= self._take(source, batches, now)
        self._look_for_ends(now)
        was_behind, self._is_behind = self._is_behind, is_behind
        if self._is_due(now, has_caught_up=was_behind and not is_behind):
            self._show(now)
        self.turns += 1
        return is_behind

    def finish(self) -> None:
        """Save and publish what has been read, whatever the time."""
        self._show(self._clock())

    def _take(self, source: Source, batches: list[LineBatch], now: float) -> bool:
        lag = source.status().lag_bytes if batches else 0
        for batch, following in zip_longest(batches, batches[1:]):
            time = 0.0 if lag > BACKLOG_BYTES else written_at(batch, now)
            self.state.take(batch, time, continues=_is_same_stream(batch, following))
            self._is_unsaved, self._logs = True, None
        return bool(lag)

    def _look_for_ends(self, now: float) -> None:
        """Notice input that ended, and now and then silent files that are gone."""
        for source in self._follower.sources:
            if isinstance(source, DrainedPipe) and source.ended and not self.state.log(source.name).ended:
                self.state.end(source.name, now)
                self._is_unsaved, self._logs = True, None
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            for name, log in self.state.logs.items():
                is_quiet = not log.ended and now - (log.last_line or now) > self._stale_after
                if is_quiet and name.startswith("/") and not os.path.lexists(name):
                    log.ended, self._logs = True, None

    def _is_due(self, now: float, *, has_caught_up: bool) -> bool:
        """Tell whether to save and publish: what is new soon, but not often while there is more to read or to write."""
        if not self._is_unsaved:
            return not 0 <= now - self._published_at < SAVE_SECONDS
        is_costly = self._is_behind or self._follower.keeps_state
        return has_caught_up or not is_costly or not 0 <= now - self._saved_at < SAVE_SECONDS

    def _show(self, now: float) -> None:
        """Save what is new, then let scrapes see it."""
        self._published_at = now
        if self._is_unsaved:
            self._saved_at = now
            self._commit()
        views = tuple(
            _source_view(source_label(s.name, self._patterns), s.status()) for s in self._follower.sources
        )
        self._logs = self.state.views() if self._logs is None else self._logs
        self._collector.publish(Snapshot(self._logs, views, self._failures, self._problems()))

    def _commit(self) -> None:
        try:
            self._follower.commit(remember(self.state))
            self._is_unsaved = False
        except StateError as error:
            self._failures += 1
            if self._failures == 1:
                _log.error("%s; until then a restart repeats lines", error)

    def _problems(self) -> frozenset[str]:
        """Return the paths that cannot be read."""
        found = (getattr(source, "problems", {}) for source in self._follower.sources)
        return frozenset(path for problems in found for path in problems)


def _is_same_stream(batch: LineBatch, following: LineBatch | None) -> bool:
    return following is not None and (batch.source, batch.stream) == (following.source, following.stream)


def written_at(batch: LineBatch, now: float) -> float:
    """Return when the newest line of ``batch`` was written: an old log that is read now says nothing of now."""
    if batch.source.startswith(JOURNAL):
        found = _JOURNAL_TIME.search(batch.lines[-1]) if batch.lines else None
        return min(now, int(found[1]) / 1e6) if found else now
    try:
        return min(now, os.stat(batch.source).st_mtime) if batch.source.startswith("/") else now  # noqa: PTH116
    except OSError:
        return now


def _source_view(name: str, status: SourceStatus) -> SourceView:
    return SourceView(name, status.up, status.bytes_read, status.lag_bytes, status.counts.skipped_bytes)
