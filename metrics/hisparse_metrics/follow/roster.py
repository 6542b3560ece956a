"""The files that are open, and the positions of those that were: who follows which inode. Does not search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hisparse_metrics.follow.chain import Chain
from hisparse_metrics.follow.disk import Disk, FileId, Handle
from hisparse_metrics.follow.file import FollowedFile, last_line_start
from hisparse_metrics.follow.lines import DEFAULT_MAX_LINE_BYTES
from hisparse_metrics.follow.source import LineCounts
from hisparse_metrics.follow.trail import Position

_MAX_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How files are found and kept.

    A file to which no name leads any more is kept open until nothing came for ``linger_seconds``.
    """

    from_start: bool = False
    scan_seconds: float = 1.0
    linger_seconds: float = 60.0
    max_line_bytes: int = DEFAULT_MAX_LINE_BYTES


class Roster:
    """Chains by path. No inode is followed twice, whatever names lead to it."""

    def __init__(self, disk: Disk, options: FollowOptions, counts: LineCounts) -> None:
        self.chains: dict[str, Chain] = {}
        self.remembered: dict[FileId, Position] = {}
        self.now = 0.0
        self._paths: dict[FileId, str] = {}
        self._disk = disk
        self._options = options
        self._counts = counts

    def files(self) -> Iterator[FollowedFile]:
        """Yield every open file."""
        for chain in self.chains.values():
            yield from chain.files

    def owner(self, file_id: FileId) -> Chain | None:
        """Return the chain in which a file is open."""
        chain = self.chains.get(self._paths.get(file_id, ""))
        is_open = chain is not None and any(file.file_id == file_id for file in chain.files)
        return chain if is_open else None

    def remember(self, position: Position) -> None:
        """Keep a position for the case that its file is named again; forget the oldest beyond a limit."""
        self.remembered.pop(position.file_id, None)
        self.remembered[position.file_id] = position
        if len(self.remembered) > _MAX_REMEMBERED:
            del self.remembered[next(iter(self.remembered))]

    def open(self, name: str) -> Handle | None:
        """Open the file called ``name``, unless it is open already. Raises :class:`OSError`."""
        handle = self._disk.open(name)
        if self.owner(FileId.of(handle.stat())):
            handle.close()
            return None
        return handle

    def follow(self, path: str, handle: Handle) -> FollowedFile:
        """Follow an open file from where it was left; from its beginning if it is not known."""
        position = self.remembered.pop(FileId.of(handle.stat()), None)
        if position is None or not position.fits(handle):
            return self.follow_from(path, handle, 0)
        offset = last_line_start(handle, position.offset) if position.is_unread else position.offset
        return self.follow_from(path, handle, offset, position.stream)

    def follow_from(self, path: str, handle: Handle, offset: int, stream: str = "") -> FollowedFile:
        """Follow an open file from ``offset``; ``stream`` when somebody has read it up to there."""
        file = FollowedFile(
            path, handle, offset, now=self.now, max_line_bytes=self._options.max_line_bytes, counts=self._counts,
            stream=stream,
        )  # fmt: skip
        self._paths[file.file_id] = path
        return file

    def retire(self, present: set[FileId], wanted: set[str]) -> None:
        """Close files that no name leads to and that stayed quiet; forget paths without files."""
        for path, chain in list(self.chains.items()):
            for position in chain.retire(present, self.now, self._options.linger_seconds):
                self.remember(position)
            if not chain.files and path not in wanted:
                del self.chains[path]
        self._paths = {file.file_id: file.path for file in self.files()}
