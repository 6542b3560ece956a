"""A usage over time in plain characters: columns of equal time, each as high as its highest value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

COLUMNS = 72
ROWS = 10


def draw(times: Sequence[float], values: Sequence[float], top: float = 1.0) -> Iterator[str]:
    """Yield the lines of a plot from 0 to ``top``; a column without a value stays empty."""
    columns = highest(times, values)
    for row in reversed(range(ROWS)):
        scale = f"{top * (row + 1) / ROWS:.1f}"
        marks = "".join("#" if value is not None and value > top * row / ROWS else " " for value in columns)
        yield f"{scale:>4}|{marks}".rstrip()
    yield " 0.0+" + "-" * COLUMNS


def highest(times: Sequence[float], values: Sequence[float]) -> list[float | None]:
    """Return the highest value of each column."""
    columns: list[float | None] = [None] * COLUMNS
    begin = times[0]
    width = (times[-1] - begin) / COLUMNS or 1.0
    for time, value in zip(times, values, strict=True):
        column = min(int((time - begin) / width), COLUMNS - 1)
        columns[column] = max(value, columns[column] or 0.0)
    return columns
