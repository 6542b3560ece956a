"""How often to sample: once a second, less often where that would cost much or tell nothing."""

from __future__ import annotations

SECOND = 1.0
QUIET_SECONDS = 5.0
"""Between two samples while nothing has changed for long and nobody looks."""
QUIET_AFTER = 60.0
MAX_SHARE = 0.02
"""Of one core, at most."""
MAX_DELAY = 30.0


class Pace:
    """Decides when the next sample is due. Times are seconds of a clock that never jumps."""

    def __init__(self) -> None:
        self._last_change = self._last_look = -QUIET_AFTER

    def looked(self, time: float) -> None:
        """Say that somebody looks at the history."""
        self._last_look = time

    def delay(self, time: float, cost: float, *, changed: bool) -> float:
        """Return the seconds until the next sample, after one that cost ``cost`` seconds of CPU."""
        if changed:
            self._last_change = time
        quiet = time - max(self._last_change, self._last_look) >= QUIET_AFTER
        return min(max(QUIET_SECONDS if quiet else SECOND, cost / MAX_SHARE), MAX_DELAY)
