"""The demo's clients: each sends a prompt of real text, waits for the answer, sends the next.

Two prompts in a row begin with the same document, as questions about one document do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from hisparse_engine.demo.texts import prompts
from hisparse_engine.engine import Engine
from hisparse_engine.request import Request, SamplingParams
from hisparse_engine.tokenizer import Tokenizer


@dataclass(frozen=True)
class Load:
    """How many clients, and the longest prompt and answer in tokens; lengths vary from a quarter of that."""

    concurrency: int
    prompt_tokens: int
    max_new_tokens: int


class Clients:
    """A closed loop of ``load.concurrency`` clients over one engine; the same requests in every run."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, load: Load) -> None:
        self._engine, self._load = engine, load
        self._texts: Iterator[list[int]] = prompts(tokenizer.encode, load.prompt_tokens)
        self._document: list[int] = []
        self._sent = 0
        self._random = random.Random(0)  # noqa: S311 - lengths of a demo's prompts
        self.open: list[Request] = []

    def send(self) -> None:
        """Let every idle client send its next prompt."""
        self.open = [request for request in self.open if request.outcome is None]
        while len(self.open) < self._load.concurrency:
            if self._sent % 2 == 0:
                self._document = next(self._texts)
            prompt = self._document[: self._length(self._load.prompt_tokens)]
            self._sent += 1
            params = SamplingParams(
                self._length(self._load.max_new_tokens), temperature=0.8, seed=self._random.getrandbits(32)
            )
            self.open.append(self._engine.add_request(prompt, params))

    def leave(self) -> None:
        """Abort whatever is open."""
        for request in self.open:
            self._engine.abort(request)

    def _length(self, longest: int) -> int:
        return self._random.randint(max(1, longest // 4), longest)
