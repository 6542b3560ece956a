"""One followed log: its ranks, its lines, and the facts about the engine behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hisparse_metrics.sglang import Event, EventKind, Record, Value
from hisparse_metrics.sidecar.liveness import Liveness
from hisparse_metrics.sidecar.rank import RankState
from hisparse_metrics.sidecar.ranks import RankKey, Signature, signature

MAX_RANKS = 1024
"""Ranks of one log; records of further ones are counted, not kept, unless a rank can be forgotten for them."""

FORGET_AFTER_SECONDS = 3600.0
_LOOK_AGAIN_SECONDS = 60.0
_CRASHES = (EventKind.CRASH, EventKind.SCHEDULER_EXCEPTION)


@dataclass(slots=True)
class LogState:
    """What one log has said so far. Times are Unix seconds; ``None`` before the first."""

    ranks: dict[RankKey, RankState] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    unknown_fields: int = 0
    refused_records: int = 0
    last_line: float | None = None
    last_sample: float | None = None
    crashed: bool = False
    ended: bool = False
    _known: dict[Signature, RankState] = field(default_factory=dict)
    _full_until: float = 0.0

    @property
    def liveness(self) -> Liveness:
        """The facts for the verdict on the engine."""
        newest = (rank.newest for rank in self.ranks.values())
        has_queue = any(sample is not None and sample.values.get("waiting_requests") for sample in newest)
        return Liveness(self.last_line, self.last_sample, has_queue, self.crashed, self.ended)

    def take(self, item: Record | Event, time: float) -> None:
        """Take in what a line said at ``time``."""
        if isinstance(item, Record):
            self._take_record(item, time)
        else:
            self._take_event(item, time)

    def settle(self, time: float) -> None:
        """End a batch of lines whose last one was written at ``time``."""
        self.last_line = max(time, self.last_line or 0.0)
        for rank in self.ranks.values():
            rank.settle()

    def _take_record(self, record: Record, time: float) -> None:
        _, values, unknown_fields, origin = record
        self.last_sample = time
        if unknown_fields or self.crashed or self.ended:
            self.unknown_fields += unknown_fields
            self.crashed = self.ended = False
        rank = self._rank(values, origin, time)
        if rank is None:
            self.refused_records += 1
        else:
            rank.take_record(values, time)

    def _take_event(self, event: Event, time: float) -> None:
        if event.kind in _CRASHES:
            if self.crashed:
                return  # Every rank says so when one dies: one crash.
            self.crashed = True
        elif event.kind is EventKind.SERVER_READY:
            self._restarted(event.origin)
        rank = self._rank(event.values, event.origin, time)
        if rank is not None:
            rank.take_event(event)

    def _restarted(self, origin: str) -> None:
        self.crashed = self.ended = False
        for key, rank in self.ranks.items():
            if key.origin == origin:
                rank.restarted()

    def _rank(self, values: Mapping[str, Value], origin: str, time: float) -> RankState | None:
        """Return who wrote the values; ``None`` when there is no room for one more."""
        writer = signature(values, origin)
        rank = self._known.get(writer)
        if rank is None and (rank := self._rank_of(RankKey.of(values, origin), time)):
            self._known[writer] = rank
        return rank

    def _rank_of(self, key: RankKey, time: float) -> RankState | None:
        rank = self.ranks.get(key)
        if rank is None and (len(self.ranks) < MAX_RANKS or self._forget_one(time)):
            rank = self.ranks[key] = RankState()
        return rank

    def _forget_one(self, time: float) -> bool:
        """Forget the rank that has been silent longest, when that is long enough to count as gone."""
        if time < self._full_until:
            return False
        ages = {key: time - _last_time(rank) for key, rank in self.ranks.items()}
        oldest = max(ages, key=ages.__getitem__)
        if ages[oldest] < FORGET_AFTER_SECONDS:
            self._full_until = time + _LOOK_AGAIN_SECONDS
            return False
        del self.ranks[oldest]
        self._known.clear()
        return True


def _last_time(rank: RankState) -> float:
    return rank.newest.time if rank.newest else 0.0
