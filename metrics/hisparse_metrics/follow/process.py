"""A child process whose output is read as lines, and whose last complaint is kept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import IO

from hisparse_metrics.follow.source import LineBatch, LineCounts
from hisparse_metrics.follow.stdin import PipeSource

_STOP_SECONDS = 2.0
_MAX_COMPLAINT = 200
_STDERR_BYTES = 1 << 16


class LineProcess:
    """Runs ``command`` at once. Raises :class:`OSError` when it cannot be started.

    The output of a child that ended is read to its end; a last line without a newline is dropped.
    """

    def __init__(
        self,
        command: Sequence[str],
        counts: LineCounts,
        *,
        max_line_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self.output = PipeSource(
            command[0],
            _descriptor(self._process.stdout),
            flush_at_end=False,
            max_line_bytes=max_line_bytes,
            counts=counts,
            clock=clock,
        )
        self._errors = PipeSource("stderr", _descriptor(self._process.stderr), max_line_bytes=_MAX_COMPLAINT)
        self._complaint = b""

    @property
    def ended(self) -> bool:
        """Whether there will be no more output."""
        return self.output.ended

    def poll(self, max_bytes: int) -> list[LineBatch]:
        """Return what was printed since the last poll."""
        for batch in self._errors.poll(_STDERR_BYTES):
            self._complaint = batch.lines[-1]
        return self.output.poll(max_bytes)

    def stop(self) -> str:
        """End the process if it still runs; return its last complaint, or else its exit code, as text."""
        self.poll(0)
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()
        return self._complaint.decode(errors="replace") or f"exit code {self._process.returncode}"


def _descriptor(stream: IO[bytes] | None) -> int:
    assert stream is not None, "started with pipes"
    return stream.fileno()
