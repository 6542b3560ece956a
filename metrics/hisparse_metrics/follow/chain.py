"""The files that one path named, one after the other: those rotated away are read to their end first."""

from __future__ import annotations

from hisparse_metrics.follow.disk import FileId
from hisparse_metrics.follow.file import FollowedFile
from hisparse_metrics.follow.source import Json, LineBatch
from hisparse_metrics.follow.trail import Position

_MAX_FORMER = 16
_SEARCHES = 3
QUIET_SECONDS = 60.0
_REST_SECONDS = 1.0


class Chain:
    """Open files of one path, oldest first.

    ``real`` is where the path led when its newest file was opened. ``siblings`` are the files seen beside it, so
    that a file which came and went between two looks is recognised as new; ``None`` before the first look.
    ``former`` is how far files had been read when they were truncated: copies made before are known by it.
    """

    def __init__(self, path: str, real: str = "", siblings: dict[int, Position] | None = None) -> None:
        self.path = path
        self.real = real or path
        self.siblings = siblings
        self.is_same = True
        self.files: list[FollowedFile] = []
        self.broken: list[Position] = []
        self.former: list[Position] = []
        self.unopened: frozenset[int] = frozenset()
        self.searches_left = 0
        self.error = ""
        self._last_news = self._next_look = 0.0

    @classmethod
    def from_json(cls, item: object) -> Chain:
        """Return a chain without files, as :meth:`to_json` wrote it. Raises :class:`ValueError`."""
        match item:
            case {"path": str(path), "real": str(real), "siblings": list(siblings), "former": list(former)}:
                chain = cls(
                    path, real, {mark.file_id.inode: mark for mark in map(Position.from_json, siblings)}
                )
                chain.former = [Position.from_json(position) for position in former]
                return chain
        raise ValueError(f"not a remembered path: {item!r:.200}")

    def to_json(self) -> Json:
        """Return what is remembered beside the positions of the files."""
        former = [position.to_json() for position in self.former]
        siblings = [mark.to_json() for mark in (self.siblings or {}).values()]
        return {
            "path": self.path, "real": self.real, "siblings": siblings, "former": former,
        }  # fmt: skip

    @property
    def positions(self) -> list[Position]:
        """Where each file was left, oldest first; those that are to be opened again included."""
        return self.broken + [file.position for file in self.files]

    def add(self, file: FollowedFile) -> None:
        """Append the newest file."""
        self.files.append(file)
        self._next_look = 0.0

    def make_newest(self, file_id: FileId) -> None:
        """Take notice that the path names this one of the files again."""
        self.files.sort(key=lambda file: file.file_id == file_id)

    def add_before_newest(self, file: FollowedFile) -> None:
        """Insert a file that holds older lines than the newest."""
        self.files.insert(max(0, len(self.files) - 1), file)
        self._next_look = 0.0

    def refresh(self, now: float) -> None:
        """Notice truncations now, and keep how far the lost content had been read."""
        for file in list(self.files):
            try:
                file.refresh(now)
            except OSError as error:
                self._give_up(file, error)
        for file in self.files:
            previous, file.previous = file.previous, None
            if previous:
                self.note_former(previous)

    def note_former(self, position: Position) -> None:
        """Keep how far lost content had been read; what nothing was read of cannot be known again."""
        if position.offset and not position.is_unread:
            self.former = [*self.former, position][-_MAX_FORMER:]
            self.searches_left = _SEARCHES

    def may_have_news(self, now: float) -> bool:
        """Tell whether to read: of files that have been quiet for a while, only now and then and when they changed."""
        self._last_news = self._last_news or now
        if 0 <= now - self._last_news < QUIET_SECONDS:
            return True
        if 0 < self._next_look - now <= _REST_SECONDS:
            return False
        self._next_look = now + _REST_SECONDS
        try:
            return not all(file.is_settled(now) for file in self.files)
        except OSError:
            return True

    def read(self, max_bytes: int, now: float) -> tuple[int, list[LineBatch]]:
        """Read from the oldest file that has something; the next one waits until that one is at its end."""
        for file in list(self.files):
            try:
                size, batch = file.read(max_bytes, now)
            except OSError as error:
                self._give_up(file, error)
                continue
            if size:
                self._last_news = now
                return size, [batch] if batch else []
        return 0, []

    def retire(self, present: set[FileId], now: float, linger_seconds: float) -> list[Position]:
        """Close the files that no path names any more, and that stayed at their end; return their positions."""
        done = [f for f in self.files if f.file_id not in present and _is_quiet(f, now, linger_seconds)]
        self.files = [file for file in self.files if file not in done]
        for file in done:
            file.close()
        return [file.position for file in done]

    def close(self) -> None:
        """Let go of every file."""
        for file in self.files:
            file.close()
        self.files = []

    def _give_up(self, file: FollowedFile, error: OSError) -> None:
        """Close a handle that fails; the file is opened again, where it was left, at the next look."""
        self.error = error.strerror or str(error)
        self.broken.append(file.position)
        self.files.remove(file)
        try:
            file.close()
        except OSError as close_error:
            self.error += f"; closing: {close_error.strerror}"


def _is_quiet(file: FollowedFile, now: float, linger_seconds: float) -> bool:
    return file.at_end and now - file.last_data >= linger_seconds
