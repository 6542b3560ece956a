"""The list of ranks: one line each, as many columns as fit, and the part of it that is in view."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from hisparse_metrics.top.draw.columns import GAP, chosen
from hisparse_metrics.top.draw.theme import Theme
from hisparse_metrics.top.view import RankView

_PREFIX = 3
"""Cursor, state's sign, space."""


def table(
    ranks: Sequence[RankView],
    cursor: int,
    height: int,
    width: int,
    theme: Theme,
    interval: float,
) -> list[Text]:
    """Return a heading and ``height - 1`` ranks at most, the one under ``cursor`` among them."""
    if height < 2 or not ranks:
        return []
    columns = chosen(width - _PREFIX, [rank.name for rank in ranks])
    (name, name_width), *others = columns
    place = f"{name.title} {cursor + 1}/{len(ranks)}"
    headings = [column.heading(w) for column, w in others]
    heading = (" " * GAP).join(
        [(place if len(place) <= name_width else name.title).ljust(name_width), *headings]
    )
    rows = min(height - 1, len(ranks))
    first = first_in_view(cursor, rows, len(ranks))
    lines = [Text(f"{' ' * _PREFIX}{heading}".ljust(width)[:width], "reverse", no_wrap=True)]
    for index in range(first, first + rows):
        rank = ranks[index]
        sign, style = theme.state(rank.state)
        line = Text(theme.glyphs.cursor if index == cursor else " ", no_wrap=True)
        line.append(sign, style).append(" ")
        for position, (column, w) in enumerate(columns):
            line.append(" " * GAP if position else "").append_text(column.cell(rank, w, theme, interval))
        if index == cursor:
            line.stylize("bold")
        line.truncate(width, overflow="crop")
        lines.append(line)
    return lines


def first_in_view(cursor: int, rows: int, count: int) -> int:
    """Return the first rank in view: the cursor stays in the middle until an end is reached."""
    return min(max(cursor - rows // 2, 0), max(count - rows, 0))
