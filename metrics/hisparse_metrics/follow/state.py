"""Positions and the consumer's counters in one file, replaced as a whole: they can never disagree."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hisparse_metrics.follow.source import Json

VERSION = 1
_FOLDER_REMEDY = "its folder must exist, be writable and have room"
REMEDY = "move it away to start without it: counters then begin at 0"
_LOCK_REMEDY = "two would overwrite each other's counters: stop the other one, or give each its own file"
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT_LOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_log = logging.getLogger(__name__)
_MODE = 0o640
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class StateError(Exception):
    """A state file cannot be read or written; the message names the file, the reason and the remedy."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"state file {path}: {reason}; {remedy}")


@dataclass(frozen=True, slots=True)
class State:
    """``positions`` by source name, and ``extra``: whatever the consumer counted up to exactly these positions."""

    positions: Mapping[str, Json] = field(default_factory=dict)
    extra: Json = field(default_factory=dict)


class StateFile:
    """Loads and saves a :class:`State`. One process at a time: :meth:`lock` holds others off, also over kill -9."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def lock(self) -> None:
        """Keep other processes from locking the file, until :meth:`unlock` or the end of this process.

        Raises :class:`StateError` when another one holds it. The lock is a file beside it, because the file itself is
        replaced; a file system that has no locks is used without.
        """
        fd = self._open_lock()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                raise StateError(self.path, "another process uses it", _LOCK_REMEDY) from error
            if error.errno not in _CANNOT_LOCK:
                raise self._error(error, "it cannot be locked") from error
            _log.warning(
                "state file %s: its file system has no locks; see that nobody else uses it", self.path
            )
        else:
            self._lock = fd

    def unlock(self) -> None:
        """Let others have the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open_lock(self) -> int:
        try:
            return os.open(self.path.with_name(f".{self.path.name}.lock"), _LOCK, _MODE)
        except OSError as error:
            raise self._error(error, _FOLDER_REMEDY) from error

    def load(self) -> State | None:
        """Return what was saved last, ``None`` when nothing ever was. Raises :class:`StateError`."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error, "is it this program's file, and readable?") from error
        return self._parsed(text)

    def save(self, state: State) -> None:
        """Write all of it, or change nothing. On return it survives a power failure. Raises :class:`StateError`."""
        content = {"version": VERSION, "positions": state.positions, "extra": state.extra}
        text = json.dumps(content, separators=(",", ":")).encode()
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            _write(temporary, text)
            temporary.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._error(error, _FOLDER_REMEDY) from error

    def _parsed(self, text: bytes) -> State:
        try:
            content = json.loads(text)
        except ValueError as error:
            raise StateError(self.path, f"not JSON ({error})", REMEDY) from error
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise StateError(self.path, f"not a state file of version {VERSION}", REMEDY)
        positions, extra = content.get("positions"), content.get("extra")
        if not isinstance(extra, dict) or not isinstance(positions, dict):
            raise StateError(self.path, "positions or extra is missing", REMEDY)
        return State({name: at for name, at in positions.items() if isinstance(at, dict)}, extra)

    def _error(self, error: OSError, remedy: str) -> StateError:
        return StateError(self.path, error.strerror or str(error), remedy)


def _write(path: Path, text: bytes) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, _CREATE | os.O_EXCL, _MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
