"""When to print a decode line, and the throughput in it. The line's form is in :mod:`hisparse_metrics.decode_log`."""

from __future__ import annotations

import time
from collections.abc import Callable

from hisparse_metrics.decode_log import LogFormat, render
from hisparse_metrics.stats import StepStats

DEFAULT_INTERVAL_STEPS = 40


class DecodeLogger:
    """Emits one line every ``interval`` decode steps, from the object that the recorder publishes.

    The throughput is tokens over seconds since the line before. A time without any request in the engine does not
    count: the interval begins anew with the first step after it.
    """

    def __init__(
        self,
        emit: Callable[[str], object],
        *,
        interval: int = DEFAULT_INTERVAL_STEPS,
        log_format: LogFormat = LogFormat.SPLIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Print through ``emit``, which gets a line without its end.

        ``clock`` gives Unix seconds; it is asked once, for the beginning of the first interval. Raises
        :class:`ValueError` for an interval below 1.
        """
        if interval < 1:
            raise ValueError(f"decode log interval must be at least 1 step, got {interval}")
        self._emit = emit
        self._interval = interval
        self._format = log_format
        self._since = clock()
        self._tokens = 0
        self._steps = 0
        self._was_idle = False
        self.failures = 0

    def maybe_log(self, stats: StepStats) -> None:
        """Print a line if one is due. What ``emit`` raises is counted in ``failures``, and never reaches the engine."""
        if stats.totals.decode_steps - self._steps >= self._interval:
            self._log(stats)
        elif self._was_idle:
            self._since, self._tokens = stats.timestamp, stats.totals.generation_tokens
        levels = stats.levels
        self._was_idle = not (levels.running_requests or levels.waiting_requests or levels.staging_requests)

    def _log(self, stats: StepStats) -> None:
        tokens = stats.totals.generation_tokens - self._tokens
        seconds = stats.timestamp - self._since
        self._since, self._tokens = stats.timestamp, stats.totals.generation_tokens
        self._steps = stats.totals.decode_steps
        try:
            self._emit(render(stats, tokens / seconds if seconds > 0 else 0.0, self._format))
        except Exception:  # noqa: BLE001 - the observer may fail, the observed may not
            self.failures += 1
