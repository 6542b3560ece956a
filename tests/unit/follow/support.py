"""A followed folder with a clock that only moves when told, and a disk that can be made to fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hisparse_metrics.follow.disk import Disk, Handle
from hisparse_metrics.follow.roster import FollowOptions
from hisparse_metrics.follow.source import LineBatch
from hisparse_metrics.follow.watch import FileSource

OPTIONS = FollowOptions(scan_seconds=0.0, linger_seconds=60.0)


class FailingHandle(Handle):
    """Fails with what its disk says."""

    def __init__(self, fd: int, fails: Callable[[], int]) -> None:
        super().__init__(fd)
        self._fails = fails

    def stat(self) -> os.stat_result:
        if code := self._fails():
            raise OSError(code, os.strerror(code))
        return super().stat()


class FailingDisk(Disk):
    """``open_error`` and ``read_error`` are error numbers; 0 is success."""

    def __init__(self) -> None:
        self.open_error = 0
        self.read_error = 0
        self.opened = 0

    def open(self, path: str) -> Handle:
        if self.open_error:
            raise OSError(self.open_error, os.strerror(self.open_error), path)
        super().open(path).close()
        self.opened += 1
        return FailingHandle(os.open(path, os.O_RDONLY), lambda: self.read_error)

    def go_stale(self) -> None:
        self.read_error = errno.ESTALE


class Followed:
    """A file source over ``folder``, polled by hand."""

    def __init__(self, folder: Path, pattern: str = "x.log", **options: object) -> None:
        self.log = folder / "x.log"
        self.now = 1000.0
        self.disk = FailingDisk()
        self._pattern = str(folder / pattern)
        self._options = replace(OPTIONS, **options)  # type: ignore[arg-type]
        self.source = self._new()

    def _new(self) -> FileSource:
        return FileSource(
            "log", [self._pattern], options=self._options, disk=self.disk, clock=lambda: self.now
        )

    def restart(self) -> None:
        position = self.source.position()
        self.source.close()
        self.source = self._new()
        self.source.resume(position)

    def batches(self, max_bytes: int = 1 << 20) -> list[LineBatch]:
        self.now += 0.25
        return self.source.poll(max_bytes)

    def lines(self, max_bytes: int = 1 << 20) -> list[bytes]:
        return [line for batch in self.batches(max_bytes) for line in batch.lines]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
