"""Bytes to lines. A line is complete at its newline, and only then handed out. Knows no file and no encoding."""

from __future__ import annotations

import re
from typing import NamedTuple

from hisparse_metrics.follow.source import LineCounts

DEFAULT_MAX_LINE_BYTES = 1 << 20
_NEWLINE = b"\n"
_NUL = b"\0"
_NUL_RUN = re.compile(rb"\0+")


class Lines(NamedTuple):
    """Complete lines without their newline; ``cut`` holds the indices of those that lost their end."""

    lines: list[bytes]
    cut: tuple[int, ...] = ()


class LineSplitter:
    """Splits one stream of bytes; keeps at most ``max_line_bytes`` of a line, in linear time whatever comes.

    NUL bytes are no text: they come from holes in files. They are left out, and where they stand between two pieces
    of a line, the piece before them lost its end and is dropped. A carriage return stays: it belongs to the line.
    """

    def __init__(
        self, max_line_bytes: int = DEFAULT_MAX_LINE_BYTES, counts: LineCounts | None = None
    ) -> None:
        if max_line_bytes < 1:
            raise ValueError(f"max_line_bytes is {max_line_bytes}, and must be at least 1")
        self._max = max_line_bytes
        self.counts = counts if counts is not None else LineCounts()
        self._partial = bytearray()
        self._is_cut = False
        self._skipping = False

    def feed(self, data: bytes) -> Lines:
        """Return the lines that ``data`` completes; its rest waits."""
        *complete, rest = data.split(_NEWLINE)
        ended = self._end_lines(complete, plain=_NUL not in data and len(data) <= self._max)
        self._keep(rest)
        self.counts.lines += len(ended.lines)
        return ended

    def skip_hole(self, length: int) -> None:
        """Take notice of ``length`` NUL bytes that were not read."""
        self.counts.nul_bytes += length - 1
        self._keep(_NUL)

    def skip_line(self) -> None:
        """Leave out everything up to the next newline: the stream begins inside a line."""
        self._skipping = True

    def drop(self) -> None:
        """Forget the partial line: its end will never come."""
        self.counts.dropped_partials += bool(self._partial)
        self._clear()

    def finish(self) -> Lines:
        """Return the partial line as a line: the stream ended, and its last line has no newline."""
        ended = self._end_lines([b""], plain=False) if self._partial else Lines([])
        self.counts.lines += len(ended.lines)
        self._clear()
        return ended

    def _end_lines(self, pieces: list[bytes], *, plain: bool) -> Lines:
        lines: list[bytes] = []
        cut: list[int] = []
        for index, piece in enumerate(pieces):
            if plain and index:
                lines += pieces[index:]
                break
            self._keep(piece)
            self._end_line(lines, cut)
        return Lines(lines, tuple(cut))

    def _end_line(self, lines: list[bytes], cut: list[int]) -> None:
        if not self._skipping:
            if self._is_cut:
                cut.append(len(lines))
                self.counts.cut_lines += 1
            lines.append(self._without_holes())
        self._clear()

    def _without_holes(self) -> bytes:
        lost, hole, line = bytes(self._partial).rstrip(_NUL).rpartition(_NUL)
        self.counts.dropped_partials += bool(hole and lost)
        return line

    def _keep(self, piece: bytes) -> None:
        if self._skipping:
            self.counts.skipped_bytes += len(piece)
            return
        if _NUL in piece:
            piece = self._shrink_holes(piece)
        room = self._max - len(self._partial)
        self._partial += piece[:room]
        if len(piece) > room:
            self._is_cut = True
            self.counts.skipped_bytes += len(piece) - room

    def _shrink_holes(self, piece: bytes) -> bytes:
        """Leave one NUL of each run, so that a hole takes no room, and none at the beginning of a line."""
        self.counts.nul_bytes += piece.count(_NUL)
        piece = _NUL_RUN.sub(_NUL, piece)
        return piece if self._partial and self._partial[-1] else piece.removeprefix(_NUL)

    def _clear(self) -> None:
        self._partial.clear()
        self._is_cut = self._skipping = False
