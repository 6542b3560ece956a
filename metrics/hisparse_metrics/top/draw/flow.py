"""Figures with their labels, side by side as long as there is room, then on the next line."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

_GAP = 2


def fact(label: str, figure: str | Text, width: int = 4) -> Text:
    """Return ``label: figure``, in the decode log's manner; ``width`` keeps what follows from moving all the time."""
    bold = figure if isinstance(figure, Text) else Text(figure, "bold")
    text = Text(f"{label}: " if label else "", no_wrap=True).append_text(bold)
    return text.append(" " * max(width - bold.cell_len, 0))


def flow(facts: Sequence[Text], width: int) -> list[Text]:
    """Return as few lines as the facts need; one that is wider than a line is cut."""
    lines: list[Text] = []
    for each in facts:
        if lines and lines[-1].cell_len + _GAP + each.cell_len <= width:
            lines[-1].append(" " * _GAP).append_text(each)
        else:
            lines.append(each.copy())
    for line in lines:
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
    return lines
