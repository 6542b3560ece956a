"""The writer of a stats page: fill the cells, commit the step. Knows no metric by name.

The page is a file mapped into memory, under an exclusive ``flock`` that the kernel drops at any death of the
writer: a reader who gets the lock knows that the writer is gone.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
import zlib
from contextlib import suppress
from pathlib import Path

from hisparse_metrics.page_claim import claim_page, page_file_name
from hisparse_metrics.page_layout import BODY, CELLS_IN_SLOT, SLOTS, PageHeader, PageLayout, encode_header
from hisparse_metrics.stats import EngineIdentity


class SlotBuffer:
    """The writer's private copy of a slot: ``cells`` is what the next step will publish."""

    def __init__(self, layout: PageLayout) -> None:
        self.raw = bytearray(layout.slot_bytes)
        self.cells = memoryview(self.raw)[CELLS_IN_SLOT:].cast("d")
        self._covered = memoryview(self.raw)[8:]
        self._head = memoryview(self.raw)[:CELLS_IN_SLOT].cast("Q")
        self.seal(0)

    def seal(self, step: int) -> None:
        """Stamp the cells with their step and the CRC of both."""
        self._head[1] = step
        self._head[0] = zlib.crc32(self._covered)


class PageWriter:
    """One rank's page, held for life: fill :attr:`cells`, then :meth:`commit`.

    Not for two threads at once. A child made by ``fork`` lets go of it: there the writer is closed, and the
    parent's death is seen although the child lives on.
    """

    _fd: int
    _map: mmap.mmap
    _page: memoryview
    _sequence: memoryview[int]
    _slots: tuple[memoryview, ...]

    def __init__(
        self, folder: Path, identity: EngineIdentity, start_time: float, layout: PageLayout | None = None
    ) -> None:
        """Claim the page of ``identity`` in ``folder``, which is created if need be.

        Raises :class:`~hisparse_metrics.page_claim.PageInUseError` when a living process holds the page,
        :class:`~hisparse_metrics.stats_dir.StatsDirError` when the folder cannot be used, and
        :class:`ValueError` when the labels do not fit in a page.
        """
        layout = layout or PageLayout()
        self.path = folder / page_file_name(identity)
        self.slot = SlotBuffer(layout)
        self.cells = self.slot.cells
        self._step = 0
        header = encode_header(PageHeader(identity, os.getpid(), start_time), layout)
        content = header.ljust(SLOTS, b"\0") + self.slot.raw
        self._map_page(claim_page(self.path, content.ljust(layout.total_bytes, b"\0")), layout)

    @property
    def closed(self) -> bool:
        """Whether this process no longer writes the page."""
        return self._fd < 0

    def commit(self) -> None:
        """Make the cells visible to readers, all at once. No I/O call, no lock."""
        step = self._step + 1
        self.slot.seal(step)
        self._sequence[0] = 2 * step - 1
        self._copy_to(self._slots[step & 1])
        self._sequence[0] = 2 * step
        self._step = step

    def close(self, *, unlink: bool = False) -> None:
        """Give the page up: readers see it as down or, with ``unlink``, no longer at all. Safe to call twice."""
        if self.closed:
            return
        if unlink:
            with suppress(OSError):
                self.path.unlink()
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self.let_go()

    def let_go(self) -> None:
        """Drop file and mapping, each of which keeps the lock alive; what a forked child does."""
        _LIVE.discard(self)
        fd, self._fd = self._fd, -1
        for view in (self._sequence, *self._slots, self._page):
            view.release()
        self._map.close()
        os.close(fd)

    def _map_page(self, fd: int, layout: PageLayout) -> None:
        self._fd = fd
        self._map = mmap.mmap(fd, layout.total_bytes)
        self._page = memoryview(self._map)
        self._sequence = self._page[BODY : BODY + 8].cast("Q")
        starts = (layout.slot_offset(0), layout.slot_offset(1))
        self._slots = tuple(self._page[start : start + layout.slot_bytes] for start in starts)
        _LIVE.add(self)

    def _copy_to(self, slot: memoryview) -> None:
        slot[:] = self.slot.raw


_LIVE: weakref.WeakSet[PageWriter] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for writer in list(_LIVE):
        writer.let_go()


os.register_at_fork(after_in_child=_let_go_in_child)
