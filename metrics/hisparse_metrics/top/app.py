"""The loop: readings in, keys in, frames out, until the user leaves. Needs ``rich``."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from queue import Empty

from rich.console import Console, Group
from rich.live import Live

from hisparse_metrics.top.board import Board
from hisparse_metrics.top.control import applied
from hisparse_metrics.top.draw.screen import screen
from hisparse_metrics.top.draw.theme import ASCII, UNICODE, Glyphs, Theme
from hisparse_metrics.top.keys import Key
from hisparse_metrics.top.look import Look
from hisparse_metrics.top.order import Order
from hisparse_metrics.top.poller import Poller
from hisparse_metrics.top.reading import ReadError, Source
from hisparse_metrics.top.terminal import STOP_SIGNALS, open_keyboard, open_terminal, size_of
from hisparse_metrics.top.view import Snapshot
from hisparse_metrics.top.vocabulary import Vocabulary

_SIGNALLED = 128
_NO_BLOCKS = ("linux", "vt")
"""Beginnings of ``TERM`` whose fonts lack the block characters."""


class App:
    """What is on the screen. Frames are drawn from snapshots; while paused, from the one that was then."""

    def __init__(self, board: Board, vocabulary: Vocabulary, order: Order, console: Console) -> None:
        self._board, self._console = board, console
        self._look = Look(order)
        self._theme = Theme(vocabulary, glyphs_for(console.encoding, os.environ.get("TERM", "")))
        self._frozen: Snapshot | None = None
        self._live = self._new_live()

    def open(self) -> None:
        """Take the screen."""
        self._live = self._new_live()
        self._live.start()

    def close(self) -> None:
        """Give the screen back; it may have gone already."""
        with suppress(OSError):
            self._live.stop()

    def draw(self) -> bool:
        """Draw a frame in the size that the terminal has now; false when the terminal has gone."""
        width, height = size_of(self._console.file.fileno())
        self._console.size = (width, height)
        lines = screen(self._snapshot(), self._look, width, height, self._theme)
        try:
            self._live.update(Group(*lines), refresh=True)
        except OSError:
            return False
        return True

    def press(self, key: Key) -> None:
        """Do what a key asks for."""
        _, height = size_of(self._console.file.fileno())
        self._look = applied(self._look, key, self._snapshot().ranks, page=max(height // 2, 1))
        if not self._look.paused:
            self._frozen = None
        elif self._frozen is None:
            self._frozen = self._snapshot()

    def _snapshot(self) -> Snapshot:
        return self._frozen or self._board.snapshot(time.time(), time.monotonic())

    def _new_live(self) -> Live:
        return Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )


def run(source: Source, interval: float, order: Order, vocabulary: Vocabulary) -> int:
    """Show ``source`` on standard output until the user leaves; return the process' exit code."""
    board = Board(source.about, interval, vocabulary)
    app = App(board, vocabulary, order, Console(highlight=False, force_terminal=True))
    with ExitStack() as undo:
        terminal = undo.enter_context(open_terminal(undo.enter_context(open_keyboard())))
        poller = Poller(source, interval, terminal.wake)
        undo.callback(poller.stop)
        undo.callback(app.close)
        app.open()
        poller.start()
        while app.draw():
            events = terminal.wait(interval)
            if stop := next((number for number in events.signals if number in STOP_SIGNALS), None):
                return _SIGNALLED + stop
            if Key.QUIT in events.keys:
                return 0
            for key in events.keys:
                app.press(key)
            if signal.SIGTSTP in events.signals:
                app.close()
                terminal.suspend()
                app.open()
            _take(poller, board)
        return _SIGNALLED + signal.SIGHUP


def glyphs_for(encoding: str, term: str) -> Glyphs:
    """Return the characters that a terminal can show."""
    return UNICODE if encoding.lower().startswith("utf") and not term.startswith(_NO_BLOCKS) else ASCII


def _take(poller: Poller, board: Board) -> None:
    """Put everything that was read since into the board."""
    with suppress(Empty):
        while True:
            outcome = poller.outcomes.get_nowait()
            if isinstance(outcome, ReadError):
                board.fail(str(outcome))
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                board.take(outcome)
