"""What happened in a log, as numbers: peaks of the usages, time above thresholds, and what went wrong."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hisparse_metrics.live.vocabulary import usage_levels
from hisparse_metrics.sglang import Event, EventKind, LogParser, Record, Value
from hisparse_metrics.sidecar.log_state import LogState
from hisparse_metrics.sidecar.ranks import RankKey
from hisparse_metrics.sidecar.replay import timed

THRESHOLDS = usage_levels()
"""Those of the dashboards and the alerts."""
USAGES = {
    "host_token_usage": "host usage",
    "device_token_usage": "device usage",
    "token_usage": "usage (no split)",
}
"""Names in a record, and what a person calls them. The last is of engines that log one figure."""
_LONGEST_STEP = 60.0
"""A record stands for the time until its rank's next one, but for no more than this: silence is not usage."""


@dataclass(slots=True)
class Course:
    """One usage over the whole log, of all ranks."""

    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    above: dict[float, float] = field(default_factory=lambda: dict.fromkeys(THRESHOLDS, 0.0))
    _last: dict[RankKey, tuple[float, float]] = field(default_factory=dict)

    @property
    def peak(self) -> tuple[float, float]:
        """The highest value and the time at which it was first seen."""
        value = max(self.values)
        return value, self.times[self.values.index(value)]

    def add(self, rank: RankKey, time: float, value: float) -> None:
        """Add one record's value."""
        before, since = self._last.get(rank, (0.0, time))
        for threshold in THRESHOLDS:
            if before >= threshold:
                self.above[threshold] += min(time - since, _LONGEST_STEP)
        self._last[rank] = (value, time)
        self.times.append(time)
        self.values.append(value)


@dataclass(slots=True)
class Summary:
    """A whole log. ``log`` has its counters and ranks, ``events`` the time of every line of a kind."""

    log: LogState = field(default_factory=LogState)
    courses: dict[str, Course] = field(default_factory=dict)
    records: Counter[str] = field(default_factory=Counter)
    events: dict[EventKind, array[float]] = field(default_factory=dict)
    first: float = 0.0
    last: float = 0.0

    def total(self, metric: str) -> int:
        """Return a counter's sum over all ranks."""
        return sum(rank.counters[metric] for rank in self.log.ranks.values())

    def take(self, item: Record | Event, time: float) -> None:
        """Take in what a line said."""
        self.first = self.first or time
        self.last = time
        self.log.take(item, time)
        if isinstance(item, Event):
            self.events.setdefault(item.kind, array("d")).append(time)
        else:
            self.records[str(item.values.get("phase"))] += 1
            if item.values.get("phase") == "decode":
                self._add_usages(RankKey.of(item.values, item.origin), item.values, time)

    def _add_usages(self, rank: RankKey, values: Mapping[str, Value], time: float) -> None:
        for name in USAGES:
            value = values.get(name)
            if isinstance(value, (int, float)):
                self.courses.setdefault(name, Course()).add(rank, time, float(value))


def summarise(lines: Iterable[bytes]) -> Summary:
    """Read a log to its end."""
    summary, parser = Summary(), LogParser()
    for moment, items in timed(lines, parser):
        for item in items:
            summary.take(item, moment)
    summary.log.lines.update(parsed=parser.parsed, ignored=parser.ignored, malformed=parser.malformed)
    summary.log.settle(summary.last)
    return summary
