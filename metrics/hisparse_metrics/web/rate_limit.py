"""A token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from hisparse_metrics.web.config import RateLimit


class TokenBucket:
    """Starts with ``burst`` tokens and gets one every ``interval`` seconds; a request takes one."""

    def __init__(self, limit: RateLimit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled_at = clock()
        self._lock = Lock()

    def take(self) -> bool:
        """Take a token; ``False`` when there is none."""
        with self._lock:
            now = self._clock()
            gained = (now - self._filled_at) / self.limit.interval
            self._tokens = min(self._tokens + gained, self.limit.burst)
            self._filled_at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
