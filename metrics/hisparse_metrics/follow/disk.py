"""The file system as a follower needs it. Tests put another in its place to make it fail."""

from __future__ import annotations

import errno
import glob
import os
import stat
from typing import NamedTuple

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FileId(NamedTuple):
    """A file, whatever its name."""

    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileId:
        """Return the identity in a stat result."""
        return cls(status.st_dev, status.st_ino)


class Handle:
    """An open file; reads do not move a position."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def stat(self) -> os.stat_result:
        """Return size, times and identity as they are now."""
        return os.fstat(self._fd)

    def read_at(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``."""
        return os.pread(self._fd, size, offset)

    def next_data(self, offset: int) -> int:
        """Return where the hole at ``offset`` ends; ``offset`` itself where there is none."""
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError:
            return offset

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class Disk:
    """Finds and opens files. Every method may raise :class:`OSError`."""

    def match(self, pattern: str) -> list[str]:
        """Return the paths that ``pattern`` matches, sorted; a path without wildcards matches itself."""
        if not glob.has_magic(pattern):
            return [pattern]
        return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern

    def stat(self, path: str) -> os.stat_result:
        """Return the status of the regular file at ``path``, through symlinks."""
        return _regular(os.stat(path), path)  # noqa: PTH116 - half the time, and called for every file every second

    def open(self, path: str) -> Handle:
        """Open the regular file at ``path``; never waits, not even for the other end of a named pipe."""
        fd = os.open(path, _OPEN)
        try:
            _regular(os.fstat(fd), path)
        except OSError:
            os.close(fd)
            raise
        return Handle(fd)

    def real(self, path: str) -> str:
        """Return ``path`` with its symlinks followed."""
        return os.path.realpath(path)

    def entries(self, folder: str) -> dict[str, int]:
        """Return the name and inode of every regular file in ``folder``."""
        with os.scandir(folder) as found:
            return {entry.name: entry.inode() for entry in found if entry.is_file(follow_symlinks=False)}


def _regular(status: os.stat_result, path: str) -> os.stat_result:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)
    return status
