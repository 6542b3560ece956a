"""The whole screen: head, list, the chosen rank, keys; who gets which lines."""

from __future__ import annotations

from rich.text import Text

from hisparse_metrics.top.draw.detail import detail
from hisparse_metrics.top.draw.header import header
from hisparse_metrics.top.draw.help import help_lines
from hisparse_metrics.top.draw.table import table
from hisparse_metrics.top.draw.theme import Theme
from hisparse_metrics.top.look import Look, place_of
from hisparse_metrics.top.order import arranged
from hisparse_metrics.top.view import Snapshot

_DETAIL_LEAST = 9
_LIST_LEAST = 5
"""A heading and four ranks: what the list keeps before the chosen rank gets anything."""
_TOO_SMALL = (20, 4)


def screen(snapshot: Snapshot, look: Look, width: int, height: int, theme: Theme) -> list[Text]:
    """Return at most ``height`` lines of at most ``width`` cells."""
    if width < _TOO_SMALL[0] or height < _TOO_SMALL[1]:
        return [Text("window too small"[:width])]
    if look.help:
        return [*help_lines(width, theme)[: height - 1], _keys(look, width, theme)]
    lines = header(snapshot, width, theme, look.paused)
    ranks = arranged(snapshot.ranks, look.order)
    room = height - len(lines) - 1
    if ranks and room >= 2:
        cursor, alone = place_of(look.cursor, ranks), len(ranks) == 1
        in_list = 0 if alone else _list_height(len(ranks), room)
        chosen = detail(ranks[cursor], width, room - in_list, theme, snapshot.interval, alone=alone)
        lines += table(ranks, cursor, in_list if chosen else room, width, theme, snapshot.interval)
        lines += chosen
    lines = lines[: height - 1]
    lines += [Text()] * (height - 1 - len(lines))
    return [*lines, _keys(look, width, theme)]


def _list_height(count: int, room: int) -> int:
    """Give the list all its ranks if the chosen one's figures still fit, else leave those figures what they need."""
    wanted = count + 1
    if wanted + _DETAIL_LEAST <= room:
        return wanted
    return min(wanted, max(room - _DETAIL_LEAST, min(_LIST_LEAST, room)))


def _keys(look: Look, width: int, theme: Theme) -> Text:
    keys = (("q", "quit"), ("s", f"sort: {look.order.value}"), ("p", "go on" if look.paused else "pause"),
            ("?", "back" if look.help else "help"), ("j/k", "choose"))  # fmt: skip
    line = Text(no_wrap=True)
    for key, meaning in keys:
        if line.cell_len + len(key) + len(meaning) + 3 <= width:
            line.append("  " if line.plain else "").append(key, "bold").append(f" {meaning}")
    return line
