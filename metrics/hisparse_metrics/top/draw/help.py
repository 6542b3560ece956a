"""What the keys do and what the words mean."""

from __future__ import annotations

from rich.text import Text

from hisparse_metrics.top.draw.theme import Theme

_KEYS = (
    ("q", "quit (Ctrl-C too)"),
    ("s", "sort by the next order: full soonest, state, tokens/s, hit ratio, name"),
    ("p, space", "pause the screen; reading goes on"),
    ("up down j k", "choose a rank, whose curves are drawn below"),
    ("PgUp PgDn", "a page of ranks"),
    ("g G Home End", "the first, the last rank"),
    ("? h", "this help"),
)
_WORDS = (
    ("gpu-token", "slots of the device pool: hot buffers; full of spare is normal"),
    ("spare", "of these, what a new request would get back"),
    (
        "cpu-token",
        "slots of the host pool: every token of an admitted request; full means that requests wait",
    ),
    ("reserved", "host slots promised to admitted requests, not used yet"),
    ("full in", "when the host pool is full if it goes on filling as in the last minute"),
    ("hit", "top-k rows that were on the device already"),
    ("to gpu, to cpu", "swap-in; backup and staging"),
    ("step", "median decode step"),
    ("retr", "retractions: running requests that gave up their slots"),
    ("last", "since the last decode step"),
)


def help_lines(width: int, theme: Theme) -> list[Text]:
    """Return the help, most important first."""
    lines = [Text("hisparse top: help", "bold"), Text()]
    for pairs in (_KEYS, _WORDS):
        for name, meaning in pairs:
            line = Text(no_wrap=True).append(f"  {name:<15}", "bold").append(meaning)
            line.truncate(width, overflow="ellipsis")
            lines.append(line)
        lines.append(Text())
    return lines
