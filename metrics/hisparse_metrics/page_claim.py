"""Becoming the one owner of a stats page: its name, its lock, and the replacement of a dead page.

The file is complete and locked before it gets its name, so a reader that still has a dead page of that name open
never sees it change, and no reader sees a page without content or owner.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hisparse_metrics.page_layout import PageError
from hisparse_metrics.page_reader import PageReader
from hisparse_metrics.stats import EngineIdentity
from hisparse_metrics.stats_dir import StatsDirError, prepare_stats_dir

SUFFIX = ".page"
_FILE_MODE = 0o640
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CLAIM_TIMEOUT_SECONDS = 5.0
_NAME_LENGTH = 80


class PageInUseError(Exception):
    """Another living engine writes the same page; the message names page, process and remedy."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(
            f"stats page {path} is in use by {holder}: give this engine another --engine-name or --stats-dir"
        )


def page_file_name(identity: EngineIdentity) -> str:
    """Return the file name of a rank's page; two different engine names never share one."""
    name = identity.engine_name
    safe = re.sub(r"^\.|[^A-Za-z0-9._-]", "_", name)[:_NAME_LENGTH]
    if safe != name or not name:
        safe += "-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    i = identity
    return f"{safe}-dp{i.dp_rank}-pp{i.pp_rank}-tp{i.tp_rank}-ep{i.ep_rank}{SUFFIX}"


def claim_page(path: Path, content: bytes) -> int:
    """Put a file with ``content`` at ``path``, exclusively locked; return its descriptor.

    The lock lasts as long as the descriptor or a mapping of it. Raises :class:`PageInUseError` when a living
    process holds the page, :class:`~hisparse_metrics.stats_dir.StatsDirError` when the folder cannot be used.
    """
    prepare_stats_dir(path.parent)
    try:
        with _folder_lock(path.parent):
            _refuse_living(path)
            return _create_locked(path, content)
    except OSError as error:
        raise StatsDirError(path.parent, error.strerror or str(error)) from error


def _refuse_living(path: Path) -> None:
    try:
        page = PageReader(path)
    except PageError:
        return
    with page:
        if page.is_alive():
            raise PageInUseError(path, page.pid_or_none())


def _create_locked(path: Path, content: bytes) -> int:
    for abandoned in path.parent.glob(f".{path.name}.*.tmp"):
        abandoned.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    fd = os.open(temporary, _CREATE, _FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write_all(fd, content)
        temporary.replace(path)
    except OSError:
        os.close(fd)
        temporary.unlink(missing_ok=True)
        raise
    return fd


def _write_all(fd: int, content: bytes) -> None:
    """Write, not ``ftruncate``: a full file system is an error here instead of a SIGBUS at a later step."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time claim a page, so that two that start together cannot both win."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock_before(fd, time.monotonic() + _CLAIM_TIMEOUT_SECONDS)
        yield
    finally:
        os.close(fd)


def _lock_before(fd: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(None, "another process keeps the folder locked") from None
            time.sleep(0.01)
