"""One unit's journal, through ``journalctl``: one JSON object a line, passed on as it is."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

from hisparse_metrics.follow.lines import DEFAULT_MAX_LINE_BYTES
from hisparse_metrics.follow.process import LineProcess
from hisparse_metrics.follow.source import Json, LineBatch, LineCounts, SourceStatus

_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 60.0
_OUTPUT = ("--output=json", "--all", "--output-fields=MESSAGE", "--no-pager", "--quiet", "--follow")
_CURSOR = re.compile(rb'"__CURSOR"\s*:\s*"([^"\\]+)"')


class JournalSource:
    """Follows a unit from now on, or after the last entry of a remembered position.

    ``journalctl`` is started again when it ends, after a delay that doubles while it gives nothing.
    """

    def __init__(
        self,
        name: str,
        unit: str,
        *,
        from_start: bool = False,
        program: str = "journalctl",
        max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.unit = unit
        self._program = program
        self._max_line_bytes = max_line_bytes
        self._clock = clock
        self._cursor = ""
        self._since = 0 if from_start else int(clock())
        self._counts = LineCounts()
        self._process: LineProcess | None = None
        self._reason = "not started yet"
        self._delay = _FIRST_DELAY_SECONDS
        self._next_start = clock()
        self._bytes_read = 0
        self._last_read: float | None = None

    def command(self) -> list[str]:
        """Return the command line that continues where this source is."""
        where = [f"--since=@{self._since}"] if self._since else []
        if self._cursor:
            where = [f"--after-cursor={self._cursor}"]
        return [self._program, f"--unit={self.unit}", "--lines=all", *_OUTPUT, *where]

    def poll(self, max_bytes: int) -> list[LineBatch]:
        """Return the entries that ``journalctl`` gave since the last poll; start it when it is due."""
        if self._process is None and self._clock() >= self._next_start:
            self._process = self._started()
        if self._process is None:
            return []
        batches = [
            replace(batch, source=self.unit, stream=self.name) for batch in self._process.poll(max_bytes)
        ]
        for batch in batches:
            self._remember(batch)
        if self._process.ended:
            self._retry_later(f"{self._program} ended: {self._stopped(self._process)}")
        return batches

    def status(self) -> SourceStatus:
        """Return the state as of the last poll; up while ``journalctl`` runs."""
        now = self._process.output.status() if self._process else None
        size = self._bytes_read + (now.bytes_read if now else 0)
        last_read = (now.last_read if now else None) or self._last_read
        return SourceStatus(not self._reason, self._reason, size, 0, last_read, self._counts)

    def position(self) -> Json:
        """Return the last entry's cursor, and the time from which to read while there is none."""
        return {"cursor": self._cursor, "since": self._since}

    def resume(self, position: Json) -> None:
        """Continue after the remembered entry. Raises :class:`ValueError`."""
        match position:
            case {"cursor": str(cursor), "since": int(since)}:
                self._cursor, self._since = cursor, since
            case _:
                raise ValueError("not a remembered place in a journal")

    def close(self) -> None:
        """Stop ``journalctl``."""
        if self._process:
            self._stopped(self._process)

    def _started(self) -> LineProcess | None:
        try:
            process = LineProcess(
                self.command(), self._counts, max_line_bytes=self._max_line_bytes, clock=self._clock
            )
        except FileNotFoundError:
            self._retry_later(f"{self._program} is not installed here: follow the unit's log file instead")
            return None
        except OSError as error:
            self._retry_later(f"{self._program} cannot be started: {error.strerror}")
            return None
        self._reason = ""
        return process

    def _stopped(self, process: LineProcess) -> str:
        """Let go of a process; keep what it read. Return why it ended."""
        status = self.status()
        self._bytes_read, self._last_read = status.bytes_read, status.last_read
        self._process = None
        return process.stop()

    def _remember(self, batch: LineBatch) -> None:
        """Keep the newest entry's cursor; a line that was cut may have lost its own."""
        self._delay = _FIRST_DELAY_SECONDS
        for line in reversed(batch.lines):
            if found := _CURSOR.search(line):
                self._cursor = found[1].decode(errors="replace")
                return

    def _retry_later(self, reason: str) -> None:
        self._reason = reason
        self._next_start = self._clock() + self._delay
        self._delay = min(2 * self._delay, _LONGEST_DELAY_SECONDS)
