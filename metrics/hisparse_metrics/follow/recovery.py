"""What rotation moved away before it was read: found again next to the log, by inode or by content."""

from __future__ import annotations

from hisparse_metrics.follow.chain import Chain
from hisparse_metrics.follow.disk import Disk, FileId, Handle
from hisparse_metrics.follow.roster import Roster
from hisparse_metrics.follow.siblings import Folders
from hisparse_metrics.follow.trail import Position, Trail


class Recovery:
    """Adds to a roster's chains the files that no pattern leads to. Finding nothing is no error."""

    def __init__(self, roster: Roster, disk: Disk) -> None:
        self._roster = roster
        self._disk = disk
        self._folders = Folders(disk)

    def look(self) -> None:
        """List the folders afresh from now on."""
        self._folders = Folders(self._disk)

    def beside(self, chain: Chain) -> dict[int, Position] | None:
        """Return the files next to a chain's newest, by inode; ``None`` when they cannot be listed."""
        if not self._folders.can_list(chain.real):
            return None
        known = chain.siblings or {}
        found = self._folders.siblings(chain.real).items()
        return {i: known.get(i) or self._mark(name, i) for name, i in found if i not in chain.unopened}

    def reopen(self, position: Position) -> None:
        """Find a file that was open before, whatever its name is now, and put it into its chain.

        If its path still leads to it, that is left to whoever visits the path.
        """
        self._roster.remember(position)
        chain = self._roster.chains.setdefault(position.path, Chain(position.path))
        if self._leads_to(chain.path, position.file_id):
            return None
        siblings = self._folders.siblings(chain.real)
        for name in self._folders.with_inode(chain.real, position.file_id.inode):
            if handle := self._open(name):
                if position.fits(handle) or name == chain.real or name in siblings:
                    return self.add(chain, handle)
                handle.close()
        self._roster.remembered.pop(position.file_id, None)
        return chain.note_former(position)

    def open_missed(self, chain: Chain, newest: int | None = None) -> None:
        """Open what was created and rotated away since the last look: new beside the log, and not a copy.

        What cannot be opened now stays new.
        """
        self.look()
        names = self._folders.siblings(chain.real).items()
        handles = {inode: self._open(name) for name, inode in names if inode != newest}
        for handle in sorted(filter(None, handles.values()), key=lambda handle: handle.stat().st_mtime_ns):
            if _is_known(chain, handle):
                handle.close()
            else:
                self.add(chain, handle)
        followed = {file.file_id.inode for file in self._roster.files()}
        chain.unopened = frozenset(handles) - followed - (chain.siblings or {}).keys()
        chain.siblings = self.beside(chain)

    def add(self, chain: Chain, handle: Handle) -> None:
        """Follow a file from where it was left; a new one behind what was read of it under another name."""
        known = self._roster.remembered.get(FileId.of(handle.stat()))
        if known and (known.offset or known.is_unread) and known.fits(handle):
            return chain.add(self._roster.follow(chain.path, handle))
        if known:
            chain.note_former(known)
        return chain.add(self._roster.follow_from(chain.path, handle, self._offset(chain, handle)))

    def recover_copy(self, chain: Chain) -> None:
        """After a truncation, read the rest from the copy that was made before it, if there is one."""
        chain.refresh(self._roster.now)
        if chain.searches_left:
            chain.searches_left -= 1
            for name in self._folders.siblings(chain.real):
                self._continue_in(name, chain)

    def _continue_in(self, name: str, chain: Chain) -> None:
        handle = self._open(name)
        offset = _bytes_read_before(chain, handle) if handle else 0
        if handle and offset:
            chain.add_before_newest(self._roster.follow_from(chain.path, handle, offset))
        elif handle:
            handle.close()

    def _leads_to(self, path: str, file_id: FileId) -> bool:
        try:
            return FileId.of(self._disk.stat(path)) == file_id
        except OSError:
            return False

    def _open(self, name: str) -> Handle | None:
        try:
            return self._roster.open(name)
        except OSError:
            return None

    def _mark(self, name: str, inode: int) -> Position:
        """Return how the file called ``name`` begins; only its inode when it cannot be read."""
        try:
            handle = self._disk.open(name)
            try:
                mark = Position.at_head(name, handle)
            finally:
                handle.close()
        except OSError:
            mark = None
        return mark if mark and mark.file_id.inode == inode else Position.unread(name, FileId(0, inode), 0)

    def _offset(self, chain: Chain, handle: Handle) -> int:
        """Return where to begin in a new file: behind what was read of the file that it is a copy of, or at 0."""
        for other in self._roster.chains.values():
            if other is chain or (chain.real.startswith(other.real) and chain.real != other.real):
                other.refresh(self._roster.now)
                if offset := _bytes_read_elsewhere(other, handle):
                    return offset
        return 0


def _is_known(chain: Chain, handle: Handle) -> bool:
    """Tell whether a file was beside the log before: the same inode may be another file by now."""
    status = handle.stat()
    mark = (chain.siblings or {}).get(status.st_ino)
    was_empty = mark is not None and not mark.is_unread and not mark.offset
    return mark is not None and mark.fits(handle) and not (was_empty and status.st_size)


def _bytes_read_elsewhere(chain: Chain, handle: Handle) -> int:
    """Return how much of a file was, or is about to be, read under another name."""
    if offset := _bytes_read_before(chain, handle):
        return offset
    is_copy = any(file.position.offset and file.position.fits(handle) for file in chain.files)
    return handle.stat().st_size if is_copy else 0


def _bytes_read_before(chain: Chain, handle: Handle) -> int:
    """Return how much of a file was read before the original was truncated; a second copy has nothing new."""
    for index, position in enumerate(chain.former):
        if position.fits(handle):
            end = Trail.at(handle, handle.stat().st_size)
            chain.former[index] = Position.of(position.path, position.file_id, end)
            return position.offset
    return 0
