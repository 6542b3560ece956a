"""One rank at one moment, whoever tells of it: a stats page or a log. Plain values; knows neither."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hisparse_metrics.histogram import Histogram

Labels = tuple[tuple[str, str], ...]


class Kind(StrEnum):
    """Where a rank's numbers come from."""

    PAGE = "page"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class RankReading:
    """What is known of a rank now. Times are Unix seconds.

    ``labels`` tell it from every other rank, across restarts. ``incarnation`` changes when its process is another
    one. ``is_current`` is false once the levels are only its last ones. ``stamp`` differs from the reading before
    when anything happened in between.
    """

    kind: Kind
    labels: Labels
    up: bool | None
    incarnation: float
    stamp: object
    is_current: bool = True
    verdict: str = ""
    """What the source itself says the engine is doing; empty leaves it to levels and the age of the last step."""
    last_step: float | None = None
    levels: Mapping[str, float] = field(default_factory=dict)
    totals: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """A short name that stands for the labels in a query."""
        return rank_id(self.labels)

    @property
    def token_owner(self) -> tuple[str, ...]:
        """Whose tokens these are: equal for ranks that hold parts of the same tokens."""
        named = dict(self.labels)
        return tuple(named.get(name, "") for name in ("engine_name", "dp_rank", "source", "origin"))


Readings = Callable[[], Sequence[RankReading]]
"""Reads every rank afresh. Must not make an engine, a log's reader or a scrape wait."""

_IDS: dict[Labels, str] = {}
_MAX_IDS = 8192


def rank_id(labels: Labels) -> str:
    """Return the short name of a rank; the same in every process."""
    found = _IDS.get(labels)
    if found is None:
        if len(_IDS) >= _MAX_IDS:
            _IDS.clear()
        found = _IDS[labels] = hashlib.sha256(repr(labels).encode(errors="replace")).hexdigest()[:12]
    return found
