"""Looks at the disk: which files the patterns name now, and which of them are new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hisparse_metrics.follow.chain import Chain
from hisparse_metrics.follow.disk import Disk, FileId
from hisparse_metrics.follow.recovery import Recovery
from hisparse_metrics.follow.roster import Roster
from hisparse_metrics.follow.siblings import COMPRESSED
from hisparse_metrics.follow.trail import Position


class Scanner:
    """Brings a roster up to date. Never raises; ``problems`` says what could not be opened, and why.

    Files that are there at the first scan are followed from their end, unless ``from_start``, or unless their pattern
    is one of ``known_patterns``: then somebody followed it before, and what is not remembered is new.
    """

    def __init__(self, patterns: Sequence[str], roster: Roster, disk: Disk, *, from_start: bool) -> None:
        self.patterns = tuple(patterns)
        self.known_patterns: frozenset[str] = frozenset()
        self.problems: dict[str, str] = {}
        self.lost: list[Position] = []
        self._roster = roster
        self._recovery = Recovery(roster, disk)
        self._disk = disk
        self._from_start = from_start
        self._is_first = True

    def scan(self) -> None:
        """Visit every path that the patterns match, and retire what no path names any more."""
        self.problems = {}
        self._recovery.look()
        beside = {chain.path: self._recovery.beside(chain) for chain in self._roster.chains.values()}
        self._reopen_lost()
        matches = list(self._matches())
        present = {file_id for path, is_new in matches if (file_id := self._visit(path, is_new))}
        for chain in self._roster.chains.values():
            self._recovery.recover_copy(chain)
            if chain.unopened:
                self._recovery.open_missed(chain)
            if chain.siblings is None or chain.is_same:
                chain.siblings = beside[chain.path] if chain.path in beside else self._recovery.beside(chain)
        self._roster.retire(present, {path for path, _ in matches})
        self._is_first = False

    def _reopen_lost(self) -> None:
        lost, self.lost = self.lost, []
        for chain in self._roster.chains.values():
            lost += chain.broken
            chain.broken = []
        for position in lost:
            self._recovery.reopen(position)

    def _matches(self) -> Iterator[tuple[str, bool]]:
        """Yield every path once, and whether files there are to be followed from their end."""
        seen: set[str] = set()
        for pattern in self.patterns:
            is_new = self._is_first and not self._from_start and pattern not in self.known_patterns
            for path in self._disk.match(pattern):
                if path not in seen and (path == pattern or not path.endswith(COMPRESSED)):
                    seen.add(path)
                    yield path, is_new

    def _visit(self, path: str, is_new: bool) -> FileId | None:
        """Follow what ``path`` names now; return its identity."""
        try:
            status = self._disk.stat(path)
            file_id = FileId.of(status)
            owner = self._roster.owner(file_id)
            if owner is None:
                if is_new and file_id not in self._roster.remembered:
                    self._roster.remember(Position.unread(path, file_id, status.st_size))
                self._switch(self._chain(path))
            elif owner.path == path:
                owner.make_newest(file_id)
                owner.is_same = True
        except OSError as error:
            self._note(path, error)
            return None
        return file_id

    def _switch(self, chain: Chain) -> None:
        """Open what the path names now; what came and went in between goes before it."""
        handle = self._roster.open(chain.path)
        if handle is None:
            return
        file_id = FileId.of(handle.stat())
        known = self._roster.remembered.get(file_id)
        chain.is_same = known is not None and known.offset > 0 and known.fits(handle)
        if known and not known.fits(handle):
            chain.note_former(self._roster.remembered.pop(file_id))
        if not chain.is_same and chain.siblings is not None:
            self._recovery.open_missed(chain, file_id.inode)
        chain.real = self._disk.real(chain.path)
        self._recovery.add(chain, handle)

    def _chain(self, path: str) -> Chain:
        return self._roster.chains.setdefault(path, Chain(path))

    def _note(self, path: str, error: OSError) -> None:
        self.problems[path] = error.strerror or str(error)
        chain = self._chain(path)
        chain.is_same = False
        if isinstance(error, FileNotFoundError) and chain.files:
            self._recovery.open_missed(chain, None)
