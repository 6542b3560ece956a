"""What a log tells of the engine behind it: working, idle, stalled, silent or dead. Pure; times are Unix seconds."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class EngineState(StrEnum):
    """The values of the catalogue's closed label, in its order."""

    WORKING = "working"
    """A decode or prefill record is fresh."""
    IDLE = "idle"
    """Other lines are fresh, and the last record showed no queue: there is nothing to do."""
    STALLED = "stalled"
    """Other lines are fresh, but the last record showed waiting requests: there is work, and none is done."""
    SILENT = "silent"
    """No line at all for a while: idle without requests, hung, or gone. The log does not tell."""
    DEAD = "dead"
    """The log said that the engine crashed, or the log has ended."""


class Liveness(NamedTuple):
    """The facts that the verdict rests on; ``None`` before the first line or record."""

    last_line: float | None = None
    last_sample: float | None = None
    has_queue: bool = False
    crashed: bool = False
    ended: bool = False

    def state(self, now: float, stale_after: float) -> EngineState:
        """Tell what the engine is doing at ``now``, as far as the log allows."""
        if self.crashed or self.ended:
            return EngineState.DEAD
        if is_fresh(self.last_sample, now, stale_after):
            return EngineState.WORKING
        if not is_fresh(self.last_line, now, stale_after):
            return EngineState.SILENT
        return EngineState.STALLED if self.has_queue else EngineState.IDLE


UP: dict[EngineState, float | None] = {
    EngineState.WORKING: 1.0,
    EngineState.IDLE: 1.0,
    EngineState.STALLED: 1.0,
    EngineState.SILENT: None,
    EngineState.DEAD: 0.0,
}
"""``hisparse_engine_up`` by state; ``None``: nothing is claimed."""


def is_fresh(time: float | None, now: float, stale_after: float) -> bool:
    """Tell whether something of that time still says what is true now."""
    return time is not None and now - time <= stale_after
