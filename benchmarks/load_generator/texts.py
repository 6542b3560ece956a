"""Words for prompts: stretches of real text, as token ids where a tokenizer is at hand and as characters where not.

The text is Python's own documentation and library, which every machine has; where a stretch begins is random, so that
two prompts share a beginning only if they are meant to.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks.load_generator.lengths import CHARACTERS
from benchmarks.load_generator.settings import LoadError
from hisparse_engine.demo.texts import corpus

Prompt = str | list[int]
_Sequence = TypeVar("_Sequence", str, list[int])


class Writer(Protocol):
    """Makes prompts of a length in tokens."""

    @property
    def description(self) -> str:
        """Return what the prompts are, for a report."""

    def write(self, tokens: int, chance: random.Random) -> Prompt:
        """Return a stretch of about ``tokens`` tokens."""

    def take(self, text: str) -> Prompt:
        """Return a given text in the form that this writer writes."""


@dataclass(frozen=True)
class CharacterWriter:
    """Writes text; ``characters`` of it are taken for a token, which a server can be asked to count."""

    characters: float = CHARACTERS

    @property
    def description(self) -> str:
        return f"text, {self.characters:.2f} characters a token"

    def write(self, tokens: int, chance: random.Random) -> str:
        return _stretch(corpus(), max(1, round(tokens * self.characters)), chance)

    def take(self, text: str) -> str:
        return text


class TokenWriter:
    """Writes token ids: prompts have exactly the length that was asked for."""

    description = "token ids"

    def __init__(self, folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError:
            raise LoadError(
                "--tokenizer: needs the package tokenizers; run: pip install tokenizers"
            ) from None
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # noqa: BLE001 - tokenizers raises nothing narrower
            raise LoadError(f"{folder}: no tokenizer.json that can be read there ({error})") from None

    @cached_property
    def _ids(self) -> list[int]:
        return self.take(corpus())

    def write(self, tokens: int, chance: random.Random) -> list[int]:
        return _stretch(self._ids, tokens, chance)

    def take(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _stretch(whole: _Sequence, length: int, chance: random.Random) -> _Sequence:
    """Return ``length`` items from a random place on; the end is followed by the beginning."""
    start = chance.randrange(len(whole))
    found = whole[start : start + length]
    while len(found) < length:
        found += whole[: length - len(found)]
    return found
