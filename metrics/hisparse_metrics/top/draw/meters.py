"""Bars, sparklines and charts: figures as so many characters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from hisparse_metrics.top.draw.theme import Theme
from hisparse_metrics.top.vocabulary import Severity


def bar(
    usage: float | None, width: int, color: str, theme: Theme, beyond: float = 0.0, beyond_color: str = "reserved"
) -> Text:  # fmt: skip
    """Draw a share, and ``beyond`` it another: what is promised of the host, or spare on the device."""
    glyphs, text = theme.glyphs, Text(no_wrap=True)
    if usage is None:
        return text.append(" " * width)
    steps = len(glyphs.parts)
    used = round(min(max(usage, 0.0), 1.0) * width * steps)
    used = max(used, 1) if usage > 0 else 0
    drawn = glyphs.parts[-1] * (used // steps) + (glyphs.parts[used % steps - 1] if used % steps else "")
    further = min(round((usage + beyond) * width), width) - len(drawn)
    text.append(drawn, theme.color(color))
    text.append(glyphs.beyond * max(further, 0), theme.color(beyond_color))
    return text.append(glyphs.empty * (width - len(text.plain)), "dim")


def sparkline(values: Sequence[float | None], top: float | None, color: str, theme: Theme) -> Text:
    """Draw one character a value, from 0 to ``top``, or to the largest value; a gap is a space."""
    [line] = chart(values, 1, top, color, theme)
    return line


def chart(
    values: Sequence[float | None], rows: int, top: float | None, color: str, theme: Theme, panel: str = ""
) -> list[Text]:
    """Draw columns over ``rows`` lines; the tip of a column is in the colour of its level on ``panel``."""
    levels = theme.glyphs.levels
    highest = top or max((value for value in values if value), default=1.0)
    lines = [Text(no_wrap=True) for _ in range(rows)]
    for value in values:
        heights = _heights(value, highest, rows, len(levels))
        tip = sum(height > 0 for height in heights) - 1
        for row, height in enumerate(heights):
            meaning = _tip_color(value, color, theme, panel) if row == tip else color
            lines[rows - 1 - row].append(levels[height - 1] if height else " ", theme.color(meaning))
    return lines


def _heights(value: float | None, highest: float, rows: int, steps: int) -> list[int]:
    """Return how high a column stands in each row, lowest first; zero stands one step, so that it is told from a gap."""
    if value is None:
        return [0] * rows
    height = max(round(min(max(value / highest, 0.0), 1.0) * rows * steps), 1)
    return [min(max(height - row * steps, 0), steps) for row in range(rows)]


def _tip_color(value: float | None, color: str, theme: Theme, panel: str) -> str:
    severity = theme.vocabulary.severity(panel, value)
    return color if severity is Severity.FINE else severity.name.lower()
