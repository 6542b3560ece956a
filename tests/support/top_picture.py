"""A picture of ``hisparse top`` from a running engine, drawn by the program's own stages.

python -m tests.support.top_picture SOURCE FILE.svg [SECONDS [WIDTH HEIGHT]]
"""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group
from rich.terminal_theme import MONOKAI

from hisparse_metrics.top.board import Board
from hisparse_metrics.top.choose import choose_source
from hisparse_metrics.top.draw.screen import screen
from hisparse_metrics.top.draw.theme import Theme
from hisparse_metrics.top.look import Look
from hisparse_metrics.top.view import Snapshot
from hisparse_metrics.top.vocabulary import load_vocabulary

# No fonts from elsewhere: whoever looks at the file has a monospaced one.
PLAIN_FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def svg_of(snapshot: Snapshot, width: int, height: int) -> str:
    console = Console(
        record=True, width=width, height=height, force_terminal=True, color_system="truecolor", file=io.StringIO()
    )  # fmt: skip
    console.print(Group(*screen(snapshot, Look(), width, height, Theme(load_vocabulary()))))
    return console.export_svg(title="hisparse top", theme=MONOKAI, code_format=PLAIN_FORMAT)


def watched(source_name: str, seconds: float) -> Snapshot:
    is_folder = Path(source_name).is_dir()
    source = choose_source(None if is_folder else source_name, Path(source_name) if is_folder else None)
    board = Board(source.about, 1.0, load_vocabulary())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reading = source.read()
        board.take(reading)
        time.sleep(1.0)
    return board.snapshot(reading.time, reading.moment)


def main(source: str, file: str, seconds: str = "58", width: str = "110", height: str = "28") -> None:
    Path(file).write_text(svg_of(watched(source, float(seconds)), int(width), int(height)))


if __name__ == "__main__":
    main(*sys.argv[1:])
