"""Where stats pages live: the choice of a folder, and its safe creation. Knows nothing of what is in a page."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

_log = logging.getLogger(__name__)

ENV_STATS_DIR = "HISPARSE_STATS_DIR"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the point is shared memory; ownership is checked below
_FOLDER_MODE = 0o750
_WORLD_WRITABLE = stat.S_IWOTH


class StatsDirError(Exception):
    """A folder cannot hold stats pages; the message names the folder, the reason and the remedy."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"stats folder {folder} cannot be used: {reason}; "
            f"choose another with --stats-dir or {ENV_STATS_DIR}"
        )


def default_stats_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that an engine and an exporter of the same user agree on without being told.

    ``HISPARSE_STATS_DIR`` decides when set. Otherwise the first of /dev/shm, the user's runtime folder and the
    temporary folder in which this user has, or may create, a private folder: one that belongs to another user or
    that everybody may write to is passed over. Nothing is created.
    """
    if chosen := environ.get(ENV_STATS_DIR):
        return Path(chosen)
    *preferred, last = _candidates(environ)
    return next((folder for folder in preferred if _is_private(folder)), last)


def prepare_stats_dir(folder: Path) -> None:
    """Create ``folder`` (mode 0750) unless it is there.

    Raises :class:`StatsDirError` when it cannot be created, is not a folder, or cannot be written to.
    """
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except FileExistsError:
        raise StatsDirError(folder, "it is not a folder") from None
    except OSError as error:
        raise StatsDirError(folder, error.strerror or str(error)) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StatsDirError(folder, "no permission to write to it")
    if _anyone_may_replace_files(folder.stat().st_mode):
        _log.warning("every user may replace files in the stats folder %s", folder)


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    yield _SHARED_MEMORY / "hisparse"
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "hisparse"
    yield Path(tempfile.gettempdir()) / f"hisparse-{os.getuid()}"


def _is_private(folder: Path) -> bool:
    """Tell whether ``folder`` is this user's alone to write to, or could be created so."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return os.access(folder.parent, os.W_OK | os.X_OK)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & _WORLD_WRITABLE


def _anyone_may_replace_files(mode: int) -> bool:
    return bool(mode & _WORLD_WRITABLE) and not mode & stat.S_ISVTX
