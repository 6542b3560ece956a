"""Stop strings in text that comes in pieces: what may be shown, and where the text ends. Knows no tokens."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Withholds text that may be the beginning of a stop string, and ends the text before one.

    The first stop string to be complete counts, the longest of those complete at the same character. So the result
    does not depend on how the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        assert all(stops), "an empty stop string would end every text"
        self._stops = tuple(stops)
        self._longest_beginning = max((len(stop) for stop in self._stops), default=1) - 1
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> str:
        """Take the next piece; return what is now certain to belong to the text. Nothing follows a stop string."""
        if self.found is not None:
            return ""
        text = self._held + text
        end = self._first_complete(text)
        if end is None:
            certain = len(text) - self._num_uncertain(text)
            self._held = text[certain:]
            return text[:certain]
        self.found = max((stop for stop in self._stops if text.endswith(stop, 0, end)), key=len)
        self._held = ""
        return text[: end - len(self.found)]

    def flush(self) -> str:
        """End the text: what was withheld was no stop string."""
        text, self._held = self._held, ""
        return text

    def _first_complete(self, text: str) -> int | None:
        ends = [at + len(stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(ends, default=None)

    def _num_uncertain(self, text: str) -> int:
        """Return the length of the longest end of ``text`` with which a stop string begins."""
        for length in range(min(self._longest_beginning, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
