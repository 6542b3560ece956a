"""One followed file, held open by inode: reads what is new, and notices when the content was replaced in place.

It knows its name only to print it. Renaming, deleting or replacing the name does not disturb it.
"""

from __future__ import annotations

import secrets

from hisparse_metrics.follow.disk import FileId, Handle
from hisparse_metrics.follow.lines import DEFAULT_MAX_LINE_BYTES, LineSplitter
from hisparse_metrics.follow.source import LineBatch, LineCounts
from hisparse_metrics.follow.trail import HEAD_BYTES, Position, Trail

_SETTLED_SECONDS = 1.0
_SEARCH_BACK_BYTES = 1 << 16
_HOLE_BYTES = 4096


def last_line_start(handle: Handle, end: int) -> int:
    """Return where the line begins that ``end`` is in; ``end`` itself if that is far away."""
    start = max(0, end - _SEARCH_BACK_BYTES)
    newline = handle.read_at(end - start, start).rfind(b"\n")
    if newline < 0:
        return end if start else 0
    return start + newline + 1


def _new_stream() -> str:
    return secrets.token_hex(8)


class FollowedFile:
    """Reads one file. ``read`` and ``refresh`` raise :class:`OSError` when the handle is no longer any good.

    Two trails are kept: of what was read, to notice that the content was replaced, and of what was handed out as
    lines, to continue from after a restart. They differ by the partial last line.
    """

    def __init__(
        self,
        path: str,
        handle: Handle,
        offset: int = 0,
        *,
        now: float = 0.0,
        max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
        counts: LineCounts | None = None,
        stream: str = "",
    ) -> None:
        self.path = path
        self.stream = stream or _new_stream()
        """The name of what is read: another one after a truncation, the same one after a restart."""
        self._handle = handle
        status = handle.stat()
        self.file_id = FileId.of(status)
        self.size = status.st_size
        self.last_data = now
        self.at_end = False
        self.previous: Position | None = None
        self._splitter = LineSplitter(max_line_bytes, counts)
        self._signature: tuple[int, int, int] | None = None
        self._signature_since = now
        self._seek(offset)

    @property
    def position(self) -> Position:
        """Where to continue: behind the last line that was handed out."""
        return Position.of(self.path, self.file_id, self._delivered, self.stream)

    @property
    def lag_bytes(self) -> int:
        """Bytes seen but not read yet."""
        return max(0, self.size - self._read.offset)

    def read(self, max_bytes: int, now: float) -> tuple[int, LineBatch | None]:
        """Read up to ``max_bytes``; return how many bytes came, and the lines that they completed."""
        if self.is_settled(now):
            return 0, None
        data = self._new_bytes(max_bytes)
        self.at_end = not data
        if not data:
            return 0, None
        self.last_data = now
        batch = self._split(data)
        self._pass_hole(data)
        return len(data), batch

    def refresh(self, now: float) -> None:
        """Notice a replacement of the content now, without reading on."""
        if not self.is_settled(now):
            self._new_bytes(0)

    def is_settled(self, now: float) -> bool:
        """Tell whether nothing can have happened: all is read, and nothing changed for longer than a clock tick."""
        status = self._handle.stat()
        self.size = status.st_size
        signature = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if signature != self._signature:
            self._signature, self._signature_since = signature, now
        all_read = self.size == self._read.offset
        return all_read and now - self._signature_since >= _SETTLED_SECONDS

    def close(self) -> None:
        """Let go of the file, and of its partial last line."""
        self._splitter.drop()
        self._handle.close()

    def _new_bytes(self, max_bytes: int) -> bytes:
        """Return what follows the bytes read so far, or the new beginning when these are no longer there.

        One system call reads the end of the old bytes and the new ones, so that no truncation comes between them.
        """
        for _ in range(3):
            trail = self._read
            known = len(trail.tail)
            if self._handle.read_at(len(trail.head), 0) == trail.head:
                window = self._handle.read_at(known + max_bytes, trail.offset - known)
                if window.startswith(trail.tail):
                    return window[known:]
            self._restart()
        return b""

    def _restart(self) -> None:
        self.previous = self.position
        self._splitter.drop()
        self._splitter.counts.truncations += 1
        self.stream = _new_stream()
        self._seek(self._kept_bytes())

    def _kept_bytes(self) -> int:
        """Return how much of what was handed out is still there: not 0 when the file lost its end only."""
        self.size = self._handle.stat().st_size
        head = self._handle.read_at(min(HEAD_BYTES, self.size), 0)
        if self.size < self._read.offset and b"\n" in head and self._read.head.startswith(head):
            return min(self.size, self._delivered.offset)
        return 0

    def _seek(self, offset: int) -> None:
        self._read = self._delivered = Trail.at(self._handle, offset)
        if self._read.tail and not self._read.tail.endswith(b"\n"):
            self._splitter.skip_line()

    def _split(self, data: bytes) -> LineBatch | None:
        lines = self._splitter.feed(data)
        behind_newline = data.rfind(b"\n") + 1
        if behind_newline:
            self._delivered = self._read.extended(data[:behind_newline])
        self._read = self._read.extended(data)
        return LineBatch(self.path, self.stream, lines.lines, lines.cut) if lines.lines else None

    def _pass_hole(self, data: bytes) -> None:
        """Go to the end of a hole in one step: a sparse file may be larger than the disk."""
        if len(data) >= _HOLE_BYTES and not data.strip(b"\0"):
            length = self._handle.next_data(self._read.offset) - self._read.offset
            if length > 0:
                self._splitter.skip_hole(length)
                self._read = self._read.extended_by_hole(length)
