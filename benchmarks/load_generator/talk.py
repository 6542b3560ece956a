"""What a chat sends with each question: everything said before, in the form of its endpoint. Sends nothing itself."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.load_generator.plan import Chat, Turn
from benchmarks.load_generator.settings import Api, Load
from benchmarks.load_generator.texts import Prompt, Writer


class Talk(Protocol):
    """One chat's words so far."""

    def ask(self, words: Prompt) -> dict[str, Any]:
        """Add a question; return the fields of a request that hold all words."""

    def hear(self, answer: Prompt) -> None:
        """Add the answer."""


@dataclass
class CompletionTalk:
    """``/v1/completions``: one text, or one list of token ids, that grows."""

    words: Prompt | None = None

    def ask(self, words: Prompt) -> dict[str, Any]:
        self.hear(words)
        return {"prompt": self.words}

    def hear(self, answer: Prompt) -> None:
        self.words = answer if self.words is None else self.words + answer  # type: ignore[operator]


@dataclass
class ChatTalk:
    """``/v1/chat/completions``: messages in turn."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, words: Prompt) -> dict[str, Any]:
        self.messages.append({"role": "user", "content": words})
        return {"messages": list(self.messages)}

    def hear(self, answer: Prompt) -> None:
        self.messages.append({"role": "assistant", "content": answer})


def new_talk(api: Api) -> Talk:
    """Return a chat in which nothing was said yet."""
    return CompletionTalk() if api == "completions" else ChatTalk()


def question(load: Load, writer: Writer, chat: Chat, index: int) -> Prompt:
    """Return the words of a chat's question: the common document first, where the chat has one."""
    turn: Turn = chat.turns[index]
    chance = random.Random(f"words {load.seed} {chat.number} {index}")
    words = (
        writer.write(turn.row.prompt_tokens, chance) if turn.row.text is None else writer.take(turn.row.text)
    )
    if index == 0 and chat.document is not None:
        document = random.Random(f"document {load.seed} {chat.document}")
        words = writer.write(load.prefix_tokens, document) + words  # type: ignore[operator]
    return words
