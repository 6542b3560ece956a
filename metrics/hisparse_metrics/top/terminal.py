"""A terminal while a program fills it: keys one by one, signals as events, and everything as it was at the end."""

from __future__ import annotations

import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple

from hisparse_metrics.top.keys import Key, KeyDecoder

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNALS = (*STOP_SIGNALS, signal.SIGWINCH, signal.SIGTSTP)
_ESCAPE_PATIENCE = 0.05
"""Seconds after which an Escape that nothing follows is the key."""
_WAKE = b"\0"
_FALLBACK = (80, 24)


class Events(NamedTuple):
    """What happened: keys, signals by number, in order."""

    keys: list[Key]
    signals: list[int]


class Terminal:
    """Waits for keys, signals and :meth:`wake`. For the main thread, within :func:`open_terminal`."""

    def __init__(self, keyboard: int | None, pipe: tuple[int, int]) -> None:
        self._keyboard, (self._read_end, self._write_end) = keyboard, pipe
        self._decoder = KeyDecoder()
        self._before = None if keyboard is None else termios.tcgetattr(keyboard)

    def unbuffer(self) -> None:
        """Deliver keys at once and do not echo them; Ctrl-C stays a signal."""
        if self._keyboard is not None:
            tty.setcbreak(self._keyboard, termios.TCSADRAIN)

    def restore(self) -> None:
        """Make the keyboard what it was; the terminal may have gone."""
        if self._keyboard is not None and self._before is not None:
            with suppress(termios.error, OSError):
                termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._before)

    def suspend(self) -> None:
        """Stop this process as Ctrl-Z does; returns when the shell lets it go on."""
        self.restore()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)
        self.unbuffer()

    def wake(self) -> None:
        """End a wait, from any thread."""
        with suppress(OSError):
            os.write(self._write_end, _WAKE)

    def wait(self, seconds: float) -> Events:
        """Return what happens within ``seconds``, as soon as anything does."""
        if self._decoder.is_waiting:
            seconds = min(seconds, _ESCAPE_PATIENCE)
        descriptors = [self._read_end] + ([] if self._keyboard is None else [self._keyboard])
        ready, _, _ = select.select(descriptors, [], [], max(seconds, 0.0))
        signals = [n for n in self._drain() if n] if self._read_end in ready else []
        if self._keyboard in ready:
            return Events(self._type(), signals)
        return Events(self._decoder.flush() if self._decoder.is_waiting else [], signals)

    def _drain(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self._read_end, 4096)
        return b""

    def _type(self) -> list[Key]:
        assert self._keyboard is not None
        try:
            data = os.read(self._keyboard, 1024)
        except OSError:
            data = b""
        if not data:
            self._keyboard = None  # the terminal has gone; a signal says so
        return self._decoder.feed(data)


@contextmanager
def open_terminal(keyboard: int | None) -> Iterator[Terminal]:
    """Yield a terminal whose keys come from the descriptor ``keyboard``, if any; put everything back at the end."""
    with ExitStack() as undo:
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for end in pipe:
            undo.callback(os.close, end)
        undo.enter_context(_signals_to(pipe[1]))
        terminal = Terminal(keyboard, pipe)
        undo.callback(terminal.restore)
        terminal.unbuffer()
        yield terminal


@contextmanager
def open_keyboard() -> Iterator[int | None]:
    """Yield the descriptor that keys come from: standard input, or the terminal itself where that is something else."""
    if os.isatty(0):
        yield 0
        return
    try:
        keyboard = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield keyboard
    finally:
        os.close(keyboard)


def size_of(screen: int) -> tuple[int, int]:
    """Return columns and lines of a terminal as they are now."""
    with suppress(OSError):
        size = os.get_terminal_size(screen)
        if size.columns > 0 and size.lines > 0:
            return size.columns, size.lines
    return _FALLBACK


@contextmanager
def _signals_to(descriptor: int) -> Iterator[None]:
    """Write each signal's number to ``descriptor`` instead of what it would do."""
    before: dict[int, Any] = {number: signal.signal(number, _ignore) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Let the wake-up descriptor tell."""
