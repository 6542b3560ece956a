"""A program in a terminal of its own: what it draws is read off an emulated screen, what is typed reaches it as keys."""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyte

PATIENCE_S = 60.0
_ENTER_SCREEN, _LEAVE_SCREEN, _HIDE_CURSOR, _SHOW_CURSOR = (
    b"\x1b[?1049h",
    b"\x1b[?1049l",
    b"\x1b[?25l",
    b"\x1b[?25h",
)


class PseudoTerminal:
    """One program and its terminal. Nothing sleeps: every wait ends with what it waits for, or fails."""

    def __init__(self, command: Sequence[str], columns: int, lines: int, environment: dict[str, str]) -> None:
        self._master, self.slave = os.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self._screen)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.raw = b""
        self.resize(columns, lines)
        self._settings = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            command,
            stdin=self.slave, stdout=self.slave, stderr=self.slave,
            env={**os.environ, "TERM": "xterm-256color", **environment},
            preexec_fn=lambda: os.login_tty(os.dup(0)),
        )  # fmt: skip

    @property
    def text(self) -> str:
        """What is on the screen now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def cells(self) -> Any:
        """The screen's cells by line and column, with their colours."""
        return self._screen.buffer

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size; the kernel tells the program."""
        self._screen.resize(lines, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, *wanted: str | Callable[[str], bool], patience: float = PATIENCE_S) -> str:
        """Read until the screen has all that is wanted; return it."""
        tests = [(lambda text, w=w: w in text) if isinstance(w, str) else w for w in wanted]
        deadline = time.monotonic() + patience
        while not all(test(self.text) for test in tests):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.text}"
            assert time.monotonic() < deadline, f"{wanted} never came:\n{self.text}"
            self._read(0.2)
        return self.text

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
            self._read(0.1)
        while self._read(0.0):
            pass
        return self.process.returncode

    def assert_restored(self) -> None:
        """The terminal is what it was: its settings, its own screen, its cursor."""
        assert termios.tcgetattr(self.slave) == self._settings
        assert self.raw.rfind(_LEAVE_SCREEN) > self.raw.rfind(_ENTER_SCREEN) >= 0
        assert self.raw.rfind(_SHOW_CURSOR) > self.raw.rfind(_HIDE_CURSOR) >= 0

    def hang_up(self) -> int:
        """Close the terminal as a lost connection does; return the program's exit code."""
        os.close(self._master)
        self._master = -1
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        os.close(self.slave)
        if self._master >= 0:
            os.close(self._master)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        data = os.read(self._master, 65536)
        self.raw += data
        self._stream.feed(self._decode(data))
        return True


@contextmanager
def in_terminal(
    *command: str, columns: int = 80, lines: int = 24, **environment: str
) -> Iterator[PseudoTerminal]:
    """Run ``command`` in a terminal for the length of the block."""
    terminal = PseudoTerminal(command, columns, lines, environment)
    try:
        yield terminal
    finally:
        terminal.close()
