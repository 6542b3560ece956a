"""The files of some patterns as one source: scanned now and then, read in turns."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from hisparse_metrics.follow.chain import QUIET_SECONDS, Chain
from hisparse_metrics.follow.disk import Disk
from hisparse_metrics.follow.roster import FollowOptions, Roster
from hisparse_metrics.follow.scanner import Scanner
from hisparse_metrics.follow.source import Json, LineBatch, LineCounts, SourceStatus
from hisparse_metrics.follow.trail import Position

_TURN_BYTES = 1 << 17
_FILES_PER_SCAN_SECOND = 128
_MAX_SCAN_FACTOR = 5.0
_DEFAULT_OPTIONS = FollowOptions()


class FileSource:
    """Follows every file that matches one of ``patterns``, through rotation, truncation and replacement.

    A poll reads at most ``max_bytes``, 128 KiB of a path in turn, so that a long backlog holds nobody up. While all of
    many files are quiet, their names are looked at less often.
    """

    def __init__(
        self,
        name: str,
        patterns: Sequence[str],
        *,
        options: FollowOptions = _DEFAULT_OPTIONS,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        disk = disk or Disk()
        self.name = name
        self.counts = LineCounts()
        self._clock = clock
        self._scan_seconds = options.scan_seconds
        self._roster = Roster(disk, options, self.counts)
        self._scanner = Scanner(patterns, self._roster, disk, from_start=options.from_start)
        self._next_scan = self._last_news = clock()
        self._turns: list[str] = []
        self._bytes_read = 0
        self._last_read: float | None = None

    @property
    def problems(self) -> dict[str, str]:
        """What cannot be read, by path, with the reason."""
        broken = {chain.path: chain.error for chain in self._roster.chains.values() if chain.broken}
        return self._scanner.problems | broken

    def poll(self, max_bytes: int) -> list[LineBatch]:
        """Return the lines completed by reading at most ``max_bytes`` more."""
        now = self._roster.now = self._clock()
        if not now < self._next_scan <= now + _MAX_SCAN_FACTOR * self._scan_seconds:
            self._scanner.scan()
            self._next_scan = now + self._seconds_to_scan(now)
        return self._read_in_turns(max_bytes)

    def status(self) -> SourceStatus:
        """Return the state as of the last poll; up when nothing fails.

        A file that is named and not there is a failure; a pattern that matches nothing yet waits for what may come.
        """
        files = list(self._roster.files())
        reason = "; ".join(f"{path}: {why}" for path, why in sorted(self.problems.items())[:3])
        up = not reason
        if up and not files:
            reason = "no file matches " + ", ".join(self._scanner.patterns)
        lag = sum(file.lag_bytes for file in files)
        return SourceStatus(up, reason, self._bytes_read, lag, self._last_read, self.counts)

    def position(self) -> Json:
        """Return where each file was left, and which files were beside it."""
        chains = self._roster.chains.values()
        return {
            "patterns": list(self._scanner.patterns),
            "files": [p.to_json() for chain in chains for p in chain.positions] + self._lost(),
            "finished": [position.to_json() for position in self._roster.remembered.values()],
            "paths": [chain.to_json() for chain in chains],
        }

    def resume(self, position: Json) -> None:
        """Continue at a remembered position: what changed since is looked for at the first poll."""
        self._scanner.known_patterns = frozenset(map(str, _items(position, "patterns")))
        self._scanner.lost = [Position.from_json(item) for item in _items(position, "files")]
        for item in _items(position, "finished"):
            self._roster.remember(Position.from_json(item))
        for item in _items(position, "paths"):
            chain = Chain.from_json(item)
            self._roster.chains[chain.path] = chain

    def close(self) -> None:
        """Close every file."""
        for chain in self._roster.chains.values():
            chain.close()

    def _seconds_to_scan(self, now: float) -> float:
        if 0 <= now - self._last_news < QUIET_SECONDS:
            return self._scan_seconds
        return self._scan_seconds * min(
            1 + len(self._roster.chains) / _FILES_PER_SCAN_SECOND, _MAX_SCAN_FACTOR
        )

    def _lost(self) -> list[Json]:
        return [position.to_json() for position in self._scanner.lost]

    def _read_in_turns(self, max_bytes: int) -> list[LineBatch]:
        chains = self._roster.chains
        turns = deque(path for path in self._turns if path in chains)
        turns += sorted(chains.keys() - set(turns))
        quiet: list[str] = []
        batches: list[LineBatch] = []
        while turns and max_bytes > 0:
            path = turns.popleft()
            if not chains[path].may_have_news(self._roster.now):
                quiet.append(path)
                continue
            size, found = chains[path].read(min(_TURN_BYTES, max_bytes), self._roster.now)
            (turns if size else quiet).append(path)
            max_bytes -= size
            batches += found
            self._count(size)
        self._turns = [*turns, *quiet]
        return batches

    def _count(self, size: int) -> None:
        if size:
            self._bytes_read += size
            self._last_read = self._last_news = self._roster.now
            self._next_scan = min(self._next_scan, self._roster.now + self._scan_seconds)


def _items(position: Json, key: str) -> list[object]:
    found = position.get(key)
    if not isinstance(found, list):
        raise ValueError(f"remembered position has no list of {key}")  # noqa: TRY004 - a file's content, not a type
    return found
