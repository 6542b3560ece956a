"""The time that a log's prefixes tell: seconds that never go back. A log has no time zone, so these are its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from hisparse_metrics.sglang import Value

_DAY = 86400.0
_HALF_DAY = _DAY / 2


class LogClock:
    """Follows the prefixes. A date that is missing is the day of the line before, or the next after midnight."""

    def __init__(self) -> None:
        self.now = 0.0

    def see(self, values: Mapping[str, Value]) -> None:
        """Take notice of a line's ``date`` and ``time``, or of its Unix ``timestamp``, where it has them."""
        timestamp = values.get("timestamp")
        if isinstance(timestamp, (int, float)):
            self.now = max(self.now, float(timestamp))
        date, clock_time = values.get("date"), values.get("time")
        if isinstance(clock_time, str):
            self.now = max(self.now, self._seconds(date, clock_time))

    def _seconds(self, date: Value | None, clock_time: str) -> float:
        text = f"{date if isinstance(date, str) else '1970-01-01'}T{clock_time}+00:00"
        try:
            seconds = datetime.fromisoformat(text).timestamp()
        except ValueError:
            return self.now
        return seconds if isinstance(date, str) else self._same_day(seconds)

    def _same_day(self, time_of_day: float) -> float:
        found = self.now - self.now % _DAY + time_of_day
        return found + _DAY if found < self.now - _HALF_DAY else found


def show(seconds: float) -> str:
    """Return a moment of the log as its prefixes write it; only the time where there never was a date."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%H:%M:%S}" if seconds < _DAY * 365 else f"{moment:%Y-%m-%d %H:%M:%S}"
