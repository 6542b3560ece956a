"""Standard error that can neither stop nor delay this process: a full disk, a closed or a stuck pipe costs lines."""

from __future__ import annotations

import io
import os
import select
import sys

_AT_ONCE = select.PIPE_BUF
"""What a pipe that is ready to be written takes without making the writer wait."""


class LossyStderr(io.TextIOBase):
    """A text stream over file descriptor 2. What cannot be written now is dropped and counted in ``lost``."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self.lost = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """UTF-8, whatever the locale says."""
        return "utf-8"

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Tell whether a person watches."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Return true: losing counts as writing."""
        return True

    def write(self, text: str) -> int:
        """Write ``text`` as far as that is possible without waiting."""
        data = text.encode("utf-8", errors="backslashreplace")
        for start in range(0, len(data), _AT_ONCE):
            if not self._write_some(data[start : start + _AT_ONCE]):
                self.lost += 1
                break
        return len(text)

    def _write_some(self, data: bytes) -> bool:
        try:
            poller = select.poll()
            poller.register(self._fd, select.POLLOUT)
            return bool(poller.poll(0)) and os.write(self._fd, data) == len(data)
        except (OSError, ValueError):
            return False


def install() -> None:
    """Let everything that this process prints for a person go through a :class:`LossyStderr`."""
    sys.stderr = LossyStderr()
