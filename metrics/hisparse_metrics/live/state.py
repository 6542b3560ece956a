"""What a rank is doing: one word for the page, from what its reading says. Thresholds are the dashboards'."""

from __future__ import annotations

from enum import StrEnum

from hisparse_metrics.live.reading import RankReading


class RankState(StrEnum):
    """Worst first, as the page sorts them."""

    DOWN = "down"
    """The process is gone, or its log ended with a crash."""
    STALLED = "stalled"
    """Requests are running and no step has come for too long."""
    SILENT = "silent"
    """A log without a line: idle, hung or gone; it does not tell."""
    UP = "up"
    IDLE = "idle"
    """Alive, with nothing to do."""


_VERDICTS = {
    "working": RankState.UP,
    "idle": RankState.IDLE,
    "stalled": RankState.STALLED,
    "silent": RankState.SILENT,
    "dead": RankState.DOWN,
}


def state_of(reading: RankReading, now: float, stalled_seconds: float) -> RankState:
    """Tell what a rank is doing at ``now`` (Unix seconds)."""
    if reading.verdict:
        return _VERDICTS[reading.verdict]
    if reading.up is False:
        return RankState.DOWN
    requests = {name: reading.levels.get(name, 0.0) for name in ("running", "staging", "waiting")}
    if not any(requests.values()):
        return RankState.IDLE
    silent = now - reading.last_step if reading.last_step is not None else 0.0
    return RankState.STALLED if requests["running"] and silent > stalled_seconds else RankState.UP
