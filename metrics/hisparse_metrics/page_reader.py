"""The reader of a stats page: a consistent snapshot without ever making the writer wait, and liveness.

Reads with ``pread`` instead of a mapping: a file that somebody truncates is then a short read, not a SIGBUS.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hisparse_metrics.page_layout import BODY, CELLS_IN_SLOT, PageError, PageHeader, PageLayout, decode_header

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPTS = 64
_SEQUENCE = struct.Struct("=Q")
_CRC_AND_STEP = struct.Struct("=QQ")


@dataclass(frozen=True, slots=True)
class PageSnapshot:
    """One page at one moment: ``cells`` all stem from the same commit, the ``step``-th of its writer."""

    path: Path
    header: PageHeader
    alive: bool
    step: int
    cells: tuple[float, ...]


class PageReader:
    """An open page. Holds one file descriptor and no lock.

    Raises :class:`~hisparse_metrics.page_layout.PageError` (reason ``unreadable``) when the file cannot be
    opened or is no regular file.
    """

    def __init__(self, path: Path, layout: PageLayout | None = None) -> None:
        self.path = path
        self._layout = layout or PageLayout()
        self._cells = struct.Struct(f"={self._layout.num_cells}d")
        self._fd = _open_regular(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def is_alive(self) -> bool:
        """Tell whether the writer still holds its lock. Needs no process id, so it works across containers."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def header(self) -> PageHeader:
        """Return what is constant in the page; :class:`PageError` when this program cannot read it."""
        return decode_header(self._read(BODY, 0), self._layout)

    def pid_or_none(self) -> int | None:
        """Return the writer's process id, or ``None`` when the page cannot be read."""
        try:
            return self.header().pid
        except PageError:
            return None

    def cells(self) -> tuple[int, tuple[float, ...]]:
        """Return the last complete step's number and its cells.

        Raises :class:`PageError` when the file is too short (``truncated``), or when a bounded number of attempts
        gave no consistent copy (``torn``).
        """
        for _ in range(_ATTEMPTS):
            body = self._read(self._layout.total_bytes - BODY, BODY)
            step = _SEQUENCE.unpack_from(body)[0] >> 1
            if (cells := self._checked(body, step)) is not None:
                return step, cells
        raise PageError("torn", f"no consistent copy in {_ATTEMPTS} attempts")

    def snapshot(self) -> PageSnapshot:
        """Return the page as it is now; :class:`PageError` as in :meth:`header` and :meth:`cells`.

        Liveness is asked first, so the cells of a dead page are its last.
        """
        alive = self.is_alive()
        header = self.header()
        step, cells = self.cells()
        return PageSnapshot(self.path, header, alive, step, cells)

    def _checked(self, body: bytes, step: int) -> tuple[float, ...] | None:
        start = self._layout.slot_offset(step) - BODY
        crc, stamp = _CRC_AND_STEP.unpack_from(body, start)
        if stamp != step or crc != zlib.crc32(body[start + 8 : start + self._layout.slot_bytes]):
            return None
        return self._cells.unpack_from(body, start + CELLS_IN_SLOT)

    def _read(self, size: int, offset: int) -> bytes:
        try:
            raw = os.pread(self._fd, size, offset)
        except OSError as error:
            raise PageError("unreadable", error.strerror or str(error)) from None
        if offset and len(raw) < size:
            raise PageError("truncated", f"{offset + len(raw)} bytes, expected {offset + size}")
        return raw


def read_page(path: Path, layout: PageLayout | None = None) -> PageSnapshot:
    """Open, snapshot and close one page; :class:`PageError`, whose ``reason`` says why, when it cannot be read."""
    with PageReader(path, layout) as page:
        return page.snapshot()


def _open_regular(path: Path) -> int:
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        raise PageError("unreadable", error.strerror or str(error)) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise PageError("unreadable", "not a regular file")
    return fd
