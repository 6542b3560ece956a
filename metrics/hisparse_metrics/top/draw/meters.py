"""Bars, sparklines and charts: figures as so many characters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from hisparse_metrics.top.draw.theme import Theme
from hisparse_metrics.top.vocabulary import Severity


def bar(usage: float | None, width: int, color: str, theme: Theme, reserved: float = 0.0) -> Text:
    """Draw a usage, and after it what is promised beyond."""
    glyphs, text = theme.glyphs, Text(no_wrap=True)
    if usage is None:
        return text.append(" " * width)
    steps = len(glyphs.parts)
    used = round(min(max(usage, 0.0), 1.0) * width * steps)
    used = max(used, 1) if usage > 0 else 0
    drawn = glyphs.parts[-1] * (used // steps) + (glyphs.parts[used % steps - 1] if used % steps else "")
    promised = min(round((usage + reserved) * width), width) - len(drawn)
    text.append(drawn, theme.color(color))
    text.append(glyphs.reserved * max(promised, 0), theme.color("reserved"))
    return text.append(glyphs.empty * (width - len(text.plain)), "dim")


def sparkline(values: Sequence[float | None], top: float | None, color: str, theme: Theme) -> Text:
    """Draw one character a value, from 0 to ``top``, or to the largest value; a gap is a space."""
    [line] = chart(values, 1, top, color, theme)
    return line


def chart(
    values: Sequence[float | None], rows: int, top: float | None, color: str, theme: Theme, panel: str = ""
) -> list[Text]:
    """Draw columns over ``rows`` lines; where ``panel`` says so, a column is in the colour of its level."""
    levels = theme.glyphs.levels
    highest = top or max((value for value in values if value), default=1.0)
    lines = []
    for row in reversed(range(rows)):
        line = Text(no_wrap=True)
        for value in values:
            line.append(*_cell(value, highest, row, rows, levels, _style(value, color, theme, panel)))
        lines.append(line)
    return lines


def _cell(
    value: float | None, highest: float, row: int, rows: int, levels: str, style: str
) -> tuple[str, str]:
    if value is None:
        return " ", ""
    height = min(max(value / highest, 0.0), 1.0) * rows * len(levels)
    filled = min(round(height) - row * len(levels), len(levels))
    if row == 0:
        filled = max(filled, 1)  # zero is told from a gap
    return (levels[filled - 1], style) if filled > 0 else (" ", "")


def _style(value: float | None, color: str, theme: Theme, panel: str) -> str:
    severity = theme.vocabulary.severity(panel, value)
    meaning = color if severity is Severity.FINE else severity.name.lower()
    return theme.color(meaning)
