"""What is remembered of the bytes read from a file, to know the file again. Knows no path.

A file is the same as before when its first bytes and the bytes just before the offset are. That tells a truncated
and regrown file, and a reused inode, from one that only grew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hisparse_metrics.follow.disk import FileId, Handle
from hisparse_metrics.follow.source import Json

HEAD_BYTES = 256
TAIL_BYTES = 64


@dataclass(frozen=True, slots=True)
class Trail:
    """Everything up to ``offset`` was read; it began with ``head`` and ended with ``tail``."""

    offset: int = 0
    head: bytes = b""
    tail: bytes = b""

    @classmethod
    def at(cls, handle: Handle, offset: int) -> Trail:
        """Return the trail of a reader that has read ``handle`` up to ``offset``; shorter if the file is."""
        head = handle.read_at(min(HEAD_BYTES, offset), 0)
        length = min(TAIL_BYTES, offset)
        tail = handle.read_at(length, offset - length)
        return cls(offset if len(tail) == length else 0, head, tail)

    def extended(self, data: bytes) -> Trail:
        """Return the trail after ``data`` was read too."""
        head = self.head + data[: HEAD_BYTES - len(self.head)]
        tail = data[-TAIL_BYTES:] if len(data) >= TAIL_BYTES else (self.tail + data)[-TAIL_BYTES:]
        return Trail(self.offset + len(data), head, tail)

    def extended_by_hole(self, length: int) -> Trail:
        """Return the trail after ``length`` NUL bytes were passed over."""
        zeros = self.extended(bytes(min(length, HEAD_BYTES)))
        return Trail(self.offset + length, zeros.head, zeros.tail)


@dataclass(frozen=True, slots=True)
class Position:
    """A :class:`Trail` as it is written down: the text of the log stays out of the state file.

    ``stream`` is the name of what was read, kept so that who continues here goes on under it.
    """

    path: str
    file_id: FileId
    offset: int
    digest: str
    stream: str = ""

    @classmethod
    def of(cls, path: str, file_id: FileId, trail: Trail, stream: str = "") -> Position:
        """Return the position of a reader with ``trail``."""
        return cls(path, file_id, trail.offset, _digest(trail), stream)

    @classmethod
    def at_head(cls, path: str, handle: Handle) -> Position:
        """Return a position that fits every file which begins like ``handle``."""
        status = handle.stat()
        return cls.of(path, FileId.of(status), Trail.at(handle, min(HEAD_BYTES, status.st_size)))

    @classmethod
    def unread(cls, path: str, file_id: FileId, size: int) -> Position:
        """Return the position at the end of a file whose content is not known: it may not be readable yet."""
        return cls(path, file_id, size, "")

    @classmethod
    def from_json(cls, item: object) -> Position:
        """Return what :meth:`to_json` wrote. Raises :class:`ValueError`."""
        match item:
            case {
                "path": str(path),
                "device": int(device),
                "inode": int(inode),
                "offset": int(offset),
                **rest,
            }:
                texts = (str(rest.get(name, "")) for name in ("digest", "stream"))
                return cls(path, FileId(device, inode), offset, *texts)
        raise ValueError(f"not a remembered position: {item!r:.200}")

    def to_json(self) -> Json:
        """Return the position as JSON values."""
        device, inode = self.file_id
        return {
            "path": self.path, "device": device, "inode": inode, "offset": self.offset, "digest": self.digest,
            "stream": self.stream,
        }  # fmt: skip

    @property
    def is_unread(self) -> bool:
        """Whether the position is only a size."""
        return not self.digest

    def fits(self, handle: Handle) -> bool:
        """Tell whether ``handle`` has the content that was read up to this position."""
        if self.is_unread:
            return handle.stat().st_size >= self.offset
        trail = Trail.at(handle, self.offset)
        return trail.offset == self.offset and _digest(trail) == self.digest


def _digest(trail: Trail) -> str:
    return hashlib.sha256(b"%d:" % len(trail.head) + trail.head + trail.tail).hexdigest()
