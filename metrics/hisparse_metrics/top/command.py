"""What ``hisparse top`` does: live on a terminal, one snapshot elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from hisparse_metrics.top.board import Board
from hisparse_metrics.top.order import Order
from hisparse_metrics.top.plain import as_json, as_text
from hisparse_metrics.top.reading import Source, TopError
from hisparse_metrics.top.view import Snapshot
from hisparse_metrics.top.vocabulary import Vocabulary, load_vocabulary

_DUMB = ("", "dumb", "unknown")


@dataclass(frozen=True, slots=True)
class TopOptions:
    """How to show it. ``as_json`` implies ``once``."""

    interval: float = 1.0
    order: Order = Order.FULL
    once: bool = False
    as_json: bool = False


def show(source: Source, options: TopOptions, echo: Callable[[str], None]) -> int:
    """Show ``source``; return the process' exit code.

    Raises :class:`ReadError` when a single snapshot cannot be taken, and :class:`TopError` without ``rich``.
    """
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    logging.getLogger("hisparse_metrics").addHandler(
        logging.NullHandler()
    )  # the screen tells, not standard error
    vocabulary = load_vocabulary()
    if options.once or options.as_json or not can_be_live(os.isatty(1), os.environ.get("TERM", "")):
        snapshot = take_snapshot(source, options.interval, vocabulary, time.sleep)
        text = as_json(snapshot, options.order) if options.as_json else as_text(snapshot, options.order)
        echo(text.rstrip("\n"))
        return 0
    return _live(source, options, vocabulary)


def can_be_live(is_terminal: bool, term: str) -> bool:
    """Tell whether standard output can be drawn on again and again."""
    return is_terminal and term not in _DUMB


def take_snapshot(
    source: Source, interval: float, vocabulary: Vocabulary, sleep: Callable[[float], None]
) -> Snapshot:
    """Read twice, ``interval`` seconds apart: rates are differences."""
    board = Board(source.about, interval, vocabulary)
    board.take(source.read())
    sleep(interval)
    last = source.read()
    board.take(last)
    return board.snapshot(last.time, last.moment)


def _live(source: Source, options: TopOptions, vocabulary: Vocabulary) -> int:
    try:
        from hisparse_metrics.top.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        raise TopError(
            "drawing on a terminal needs rich, which is not installed; run: pip install 'hisparse[top]' "
            "(--once and --json work without it)"
        ) from None
    sys.stdout.flush()
    return run(source, options.interval, options.order, vocabulary)
