"""What rotation moved away before it was read: found again next to the log, by inode or by content."""

from __future__ import annotations

from hisparse_metrics.follow.chain import Chain
from hisparse_metrics.follow.disk import Disk, Handle
from hisparse_metrics.follow.file import FollowedFile
from hisparse_metrics.follow.roster import Roster
from hisparse_metrics.follow.siblings import Folders
from hisparse_metrics.follow.trail import Position


class Recovery:
    """Adds to a roster's chains the files that no pattern leads to. Finding nothing is no error."""

    def __init__(self, roster: Roster, disk: Disk) -> None:
        self._roster = roster
        self._disk = disk
        self._folders = Folders(disk)

    def look(self) -> None:
        """List the folders afresh from now on."""
        self._folders = Folders(self._disk)

    def inodes_beside(self, chain: Chain) -> frozenset[int] | None:
        """Return the inodes of the files next to a chain's newest; ``None`` when they cannot be listed."""
        if not self._folders.can_list(chain.real):
            return None
        return frozenset(self._folders.siblings(chain.real).values())

    def reopen(self, position: Position) -> None:
        """Find a file that was open before, whatever its name is now, and put it into its chain.

        The path itself is left to whoever visits it: it may name another file by now.
        """
        self._roster.remember(position)
        chain = self._roster.chains.setdefault(position.path, Chain(position.path))
        for name in self._folders.with_inode(chain.real, position.file_id.inode):
            handle = self._open(name) if name not in (chain.path, chain.real) else None
            if handle and self._fits_or_close(position, handle):
                return chain.add(self._roster.follow(chain.path, handle))
        return None

    def open_missed(self, chain: Chain, newest: int | None) -> None:
        """Open what was created and rotated away since the last look: new beside the log, and not a copy."""
        self.look()
        known = chain.siblings or frozenset()
        beside = self._folders.siblings(chain.real)
        handles = [self._open(name) for name, inode in beside.items() if inode not in known | {newest}]
        for handle in sorted(filter(None, handles), key=lambda handle: handle.stat().st_mtime_ns):
            if any(_is_copy(file, handle) for file in chain.files):
                handle.close()
            else:
                chain.add(self._roster.follow(chain.path, handle))
        chain.siblings = self.inodes_beside(chain)

    def recover_copies(self, chain: Chain) -> None:
        """After a truncation, read the rest from the copy that was made before it, if there is one."""
        for file in list(chain.files):
            position, file.previous = file.previous, None
            if position and position.offset:
                self._recover(chain, file, position)

    def offset_in_copy(self, path: str, handle: Handle) -> int:
        """Return where to begin in a new file: behind what was read of the file that it is a copy of, or at 0."""
        for chain in self._roster.chains.values():
            if path.startswith(chain.real) and path != chain.real:
                for file in chain.files:
                    if offset := _offset_after_copying(file, handle):
                        return offset
        return 0

    def _recover(self, chain: Chain, file: FollowedFile, position: Position) -> None:
        for name in self._folders.siblings(chain.real):
            handle = self._open(name)
            if handle and self._fits_or_close(position, handle):
                copy = self._roster.follow_from(chain.path, handle, position.offset)
                return chain.add_before(file, copy)
        return None

    def _open(self, name: str) -> Handle | None:
        try:
            return self._roster.open(name)
        except OSError:
            return None

    def _fits_or_close(self, position: Position, handle: Handle) -> bool:
        fits = position.fits(handle)
        if not fits:
            handle.close()
        return fits


def _is_copy(file: FollowedFile, handle: Handle) -> bool:
    return file.position.offset > 0 and file.position.fits(handle)


def _offset_after_copying(file: FollowedFile, handle: Handle) -> int:
    file.refresh()
    if file.previous and file.previous.offset and file.previous.fits(handle):
        position, file.previous = file.previous, None
        return position.offset
    return handle.stat().st_size if _is_copy(file, handle) else 0
