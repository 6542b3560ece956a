"""Lines that say nothing, known by their text without digits: a server prints a few of them, millions of times.

Everything that the parser looks for has a text without digits in it. So where that is not in a line's text without its
digits, it is not in any line with the same such text. Only lines that begin as no envelope does are known here.
"""

from __future__ import annotations

from hisparse_metrics.sglang.events import MESSAGES

NEEDLES = (b" batch", *(message.needle.encode() for message in MESSAGES))
_BARE = (b"[2", b" ")
_DIGITS = b"0123456789"
_MAX_KNOWN = 1024
_MAX_LINE_BYTES = 1024


class Noise:
    """The texts met so far. Their number is bounded: where everything is new, all lines are read."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def knows(self, line: bytes) -> bool:
        """Tell whether ``line`` certainly says nothing."""
        return line.startswith(_BARE) and line.translate(None, _DIGITS) in self._known

    def learn(self, line: bytes) -> None:
        """Remember a line of which the parser made nothing."""
        if not line.startswith(_BARE) or len(line) > _MAX_LINE_BYTES or len(self._known) >= _MAX_KNOWN:
            return
        text = line.translate(None, _DIGITS)
        if not any(needle in text for needle in NEEDLES):
            self._known.add(text)
