"""The files next to a log: where rotation puts what the log's name no longer leads to. Opens nothing."""

from __future__ import annotations

import os.path
from bisect import bisect_left, bisect_right

from hisparse_metrics.follow.disk import Disk

_SEPARATORS = ".-_~"
_LAST = "\U0010ffff"
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".Z")


class Folders:
    """Each folder's files, listed once per look."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._names: dict[str, list[str]] = {}
        self._listed: dict[str, dict[str, int] | None] = {}

    def can_list(self, path: str) -> bool:
        """Tell whether the folder of ``path`` can be listed."""
        return self._list(os.path.dirname(path)) is not None  # noqa: PTH120 - paths are text here

    def siblings(self, path: str) -> dict[str, int]:
        """Return path and inode of the files that are named like ``path`` with something appended."""
        folder, base = os.path.split(path)
        inodes = self._list(folder) or {}
        names = self._names[folder]
        return {
            os.path.join(folder, name): inodes[name]  # noqa: PTH118
            for name in names[bisect_right(names, base) : bisect_left(names, base + _LAST)]
            if name[len(base)] in _SEPARATORS and not name.endswith(COMPRESSED)
        }

    def with_inode(self, path: str, inode: int) -> list[str]:
        """Return the paths of the files with ``inode`` in the folder of ``path``."""
        folder = os.path.dirname(path)  # noqa: PTH120
        inodes = self._list(folder) or {}
        return [os.path.join(folder, name) for name in inodes if inodes[name] == inode]  # noqa: PTH118

    def _list(self, folder: str) -> dict[str, int] | None:
        if folder not in self._listed:
            self._listed[folder] = found = self._sorted(folder)
            self._names[folder] = list(found or ())
        return self._listed[folder]

    def _sorted(self, folder: str) -> dict[str, int] | None:
        try:
            return dict(sorted(self._disk.entries(folder or ".").items()))
        except OSError:
            return None
