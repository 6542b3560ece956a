"""A finished log, replayed by its own timestamps into the exposition: last night's incident on today's dashboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from hisparse_metrics.sglang import Event, LogParser, Record
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.log_clock import LogClock
from hisparse_metrics.sidecar.state import SidecarState
from hisparse_metrics.sidecar.views import Snapshot, SourceView


class Replayed(NamedTuple):
    """What one line said, and when by the log's own clock."""

    moment: float
    items: list[Record | Event]


class Replay:
    """Shows a log's records at ``speed`` times their own pace; the times that it exports are those of now.

    ``wait`` sleeps for some seconds and returns True to end the replay.
    """

    def __init__(
        self,
        name: str,
        collector: SidecarCollector,
        speed: float,
        wait: Callable[[float], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.num_records = 0
        self._name = name
        self._collector = collector
        self._speed = speed
        self._wait = wait
        self._clock = clock
        self._state = SidecarState()
        self._began: tuple[float, float] | None = None

    def run(self, lines: Iterable[bytes]) -> bool:
        """Replay to the end, and return True; False when ``wait`` asked to stop."""
        for moment, items in timed(lines):
            if not self._wait_for(moment):
                return False
            self._show(items)
        self._publish()
        return True

    def _wait_for(self, moment: float) -> bool:
        """Publish what has been, then wait until it is ``moment`` in the replay."""
        now = self._clock()
        self._began = self._began or (now, moment)
        due = self._began[0] + (moment - self._began[1]) / self._speed
        if due <= now:
            return True
        self._publish()
        return not self._wait(due - now)

    def _show(self, items: list[Record | Event]) -> None:
        log, now = self._state.log(self._name), self._clock()
        for item in items:
            log.take(item, now)
            log.lines["parsed"] += 1
        self.num_records += len(items)
        log.settle(now)

    def _publish(self) -> None:
        self._collector.publish(Snapshot(self._state.views(), (SourceView(self._name, True, 0, 0),)))


def timed(lines: Iterable[bytes], parser: LogParser | None = None) -> Iterator[Replayed]:
    """Yield what each line says with its time; lines that say nothing yield nothing."""
    parser, clock = parser or LogParser(), LogClock()
    for line in lines:
        if items := parser.feed(line):
            for item in items:
                clock.see(item.values)
            yield Replayed(clock.now, items)
    if items := parser.finish():
        yield Replayed(clock.now, items)
