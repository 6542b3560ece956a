"""Lines like the last ones, read in one go: a line's shape, learnt from a full reading, as one compiled pattern.

A server prints a few shapes of line, millions of times. The full reading goes field by field and is the grammar; a
shape is put together from what that reading found, with the same field tables, and is kept only if it reads its first
line to the same values. It matches whole lines, so it says no more than the full reading would. Without shapes
everything works, more slowly.
"""

from __future__ import annotations

from hisparse_metrics.sglang.learning import Source, learn
from hisparse_metrics.sglang.shape import Known, Memo, Shape

MAX_SHAPES = 16
_MAX_ATTEMPTS = 64


class Shapes:
    """The shapes met so far, the last used first. Their number is bounded: a log of ever new shapes is read slowly."""

    def __init__(self) -> None:
        self._shapes: list[Shape] = []
        self._memo = Memo()
        self._attempts = 0

    def learn(self, source: Source, known: Known) -> None:
        """Remember the shape of a line, for as long as there is room."""
        if len(self._shapes) < MAX_SHAPES and self._attempts < _MAX_ATTEMPTS:
            self._attempts += 1
            if shape := learn(source, known, self._memo):
                self._shapes.insert(0, shape)

    def read(self, line: str) -> Known | None:
        """Return what ``line`` says when it has a known shape."""
        for shape in self._shapes:
            known = shape.read(line)
            if known is not None:
                if shape is not self._shapes[0]:
                    self._shapes.remove(shape)
                    self._shapes.insert(0, shape)
                return known
        return None
