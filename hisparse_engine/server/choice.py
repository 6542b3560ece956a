"""One choice of an answer: tokens come in, text goes out, with what OpenAI's API tells about each token.

Knows stop strings, incomplete characters and end-of-sequence tokens; no HTTP and no engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from hisparse_engine.server.stop_strings import StopMatcher
from hisparse_engine.tokenizer import Tokenizer

Logprobs = tuple[float, list[int], list[float]]


class ShownToken(NamedTuple):
    """A token of the shown text. ``offset`` is where in it the token's text begins; ``logprobs`` where asked for."""

    id: int
    offset: int
    logprobs: Logprobs | None


class Piece(NamedTuple):
    """What a step added to a choice. ``finish_reason`` comes with the last piece."""

    text: str
    tokens: list[ShownToken]
    finish_reason: str | None = None


class Choice:
    """Assembles one choice. ``num_tokens`` counts what was generated up to its end, shown or not."""

    def __init__(self, tokenizer: Tokenizer | None, stops: Sequence[str] = ()) -> None:
        self._text = tokenizer.stream() if tokenizer is not None else None
        self._matcher = StopMatcher(stops)
        self._hidden: deque[ShownToken] = deque()  # generated, but their text is not out yet
        self._num_decoded = 0  # characters of the tokens so far
        self._num_shown = 0
        self.num_tokens = 0
        self.finished = False

    def push(self, tokens: Sequence[int], logprobs: Sequence[Logprobs], outcome: str | None = None) -> Piece:
        """Take new tokens; ``outcome`` is set when no more will come. The piece may have no text."""
        text = ""
        for index, token in enumerate(tokens):
            self.num_tokens += 1
            if outcome == "stop" and index == len(tokens) - 1:
                break  # an end-of-sequence token is no text
            text += self._add(token, logprobs[index] if logprobs else None)
            if self._matcher.found is not None:
                return self._last(text, "stop", cut=True)
        return Piece(text, self._now_shown(text)) if outcome is None else self._end(text, outcome)

    def _add(self, token: int, logprobs: Logprobs | None) -> str:
        self._hidden.append(ShownToken(token, self._num_decoded, logprobs))
        decoded = self._text.push(token) if self._text is not None else ""
        self._num_decoded += len(decoded)
        return self._matcher.push(decoded)

    def _end(self, text: str, outcome: str) -> Piece:
        if self._text is not None:
            text += self._matcher.push(self._text.flush())
        if self._matcher.found is not None:
            return self._last(text, "stop", cut=True)
        return self._last(text + self._matcher.flush(), outcome, cut=False)

    def _last(self, text: str, reason: str, *, cut: bool) -> Piece:
        self.finished = True
        shown = self._now_shown(text)
        return Piece(text, shown if cut else [*shown, *self._hidden], reason)

    def _now_shown(self, text: str) -> list[ShownToken]:
        """Return the tokens of which something has come out with ``text``, or before it without a character."""
        self._num_shown += len(text)
        shown = []
        while self._hidden and (self._hidden[0].offset < self._num_shown or self._text is None):
            shown.append(self._hidden.popleft())
        return shown
