"""Answers in OpenAI's shapes: whole ones and chunks, of both endpoints. Pure functions of what was generated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from hisparse_engine import __version__
from hisparse_engine.server.answer import Usage
from hisparse_engine.server.choice import Piece, ShownToken
from hisparse_engine.server.logprobs import chat_logprobs, completion_logprobs
from hisparse_engine.tokenizer import Tokenizer


class Shape(ABC):
    """How one endpoint presents choices. ``with_logprobs`` and ``with_ids``: whether the client asked for them."""

    whole: str
    chunk: str

    def __init__(
        self, answer_id: str, model: str, created: int, tokenizer: Tokenizer | None,
        *, with_logprobs: bool, with_ids: bool,
    ) -> None:  # fmt: skip
        self._common = {
            "id": answer_id,
            "created": created,
            "model": model,
            "system_fingerprint": f"hisparse-{__version__}",
        }
        self._tokenizer = tokenizer
        self._with_logprobs, self._with_ids = with_logprobs, with_ids

    def answer(self, pieces: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        """Return the whole answer; ``pieces`` has one for each choice."""
        choices = [
            self._choice(index, piece, self._whole_text(piece.text)) for index, piece in enumerate(pieces)
        ]
        return {**self._common, "object": self.whole, "choices": choices, "usage": usage_object(usage)}

    def first_chunks(self, num_choices: int) -> Iterator[dict[str, Any]]:
        """Yield the chunks that come before any text."""
        yield from ()

    def chunk_of(self, index: int, piece: Piece) -> dict[str, Any]:
        """Return a choice's next chunk."""
        return self._chunk([self._choice(index, piece, self._chunk_text(piece.text))])

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the last chunk of a stream whose client asked for the counts."""
        return {**self._chunk([]), "usage": usage_object(usage)}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._common, "object": self.chunk, "choices": choices}

    def _choice(self, index: int, piece: Piece, text: dict[str, Any]) -> dict[str, Any]:
        choice = {
            "index": index,
            **text,
            "logprobs": self._logprobs(piece.tokens) if self._with_logprobs else None,
            "finish_reason": piece.finish_reason,
        }
        if self._with_ids:
            choice["token_ids"] = [token.id for token in piece.tokens]
        return choice

    @abstractmethod
    def _whole_text(self, text: str) -> dict[str, Any]: ...

    @abstractmethod
    def _chunk_text(self, text: str) -> dict[str, Any]: ...

    @abstractmethod
    def _logprobs(self, tokens: Sequence[ShownToken]) -> dict[str, Any]: ...


class CompletionShape(Shape):
    """``/v1/completions``."""

    whole = chunk = "text_completion"

    def _whole_text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _chunk_text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _logprobs(self, tokens: Sequence[ShownToken]) -> dict[str, Any]:
        return completion_logprobs(tokens, self._tokenizer)


class ChatShape(Shape):
    """``/v1/chat/completions``."""

    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def first_chunks(self, num_choices: int) -> Iterator[dict[str, Any]]:
        """Say who speaks."""
        for index in range(num_choices):
            delta = {"delta": {"role": "assistant", "content": ""}}
            yield self._chunk([self._choice(index, Piece("", []), delta)])

    def _whole_text(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _chunk_text(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    def _logprobs(self, tokens: Sequence[ShownToken]) -> dict[str, Any]:
        return chat_logprobs(tokens, self._tokenizer)


def usage_object(usage: Usage) -> dict[str, Any]:
    """Return the counts as both endpoints have them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def merged(pieces: Sequence[Piece]) -> Piece:
    """Return one choice's pieces as one."""
    return Piece(
        "".join(piece.text for piece in pieces),
        [token for piece in pieces for token in piece.tokens],
        pieces[-1].finish_reason,
    )
