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
        self._rests = False

    def looked(self, time: float) -> bool:
        """Say that somebody looks at the history; tell whether that ends a rest."""
        self._last_look = time
        rested, self._rests = self._rests, False
        return rested

    def delay(self, time: float, cost: float, *, changed: bool) -> float:
        """Return the seconds until the next sample, after one that cost ``cost`` seconds of CPU."""
        if changed:
            self._last_change = time
        quiet = time - max(self._last_change, self._last_look) >= QUIET_AFTER
        affordable = cost / MAX_SHARE
        self._rests = quiet and affordable < QUIET_SECONDS
        return min(max(QUIET_SECONDS if quiet else SECOND, affordable), MAX_DELAY)
