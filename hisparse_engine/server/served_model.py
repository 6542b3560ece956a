"""The model as clients see it: its name, its text side, its limits, its sampling defaults. Holds no weights."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hisparse_engine.errors import CheckpointError
from hisparse_engine.server.chat_template import ChatTemplate
from hisparse_engine.server.engine_client import Job
from hisparse_engine.server.errors import bad_request
from hisparse_engine.server.schema import GenerationBody
from hisparse_engine.tokenizer import Tokenizer

_GENERATION_CONFIG = "generation_config.json"


class SamplingDefaults(NamedTuple):
    """What holds where a client says nothing: OpenAI's values, or what the checkpoint's authors recommend."""

    temperature: float = 1.0
    top_p: float = 1.0

    @classmethod
    def read(cls, folder: Path) -> SamplingDefaults:
        """Read ``generation_config.json``; what is missing there, or makes no sense, is OpenAI's."""
        path = folder / _GENERATION_CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); download it again") from None
        if not isinstance(config, dict):
            raise CheckpointError(f"{path}: must be a JSON object; download it again")
        given = {name: config[name] for name in cls._fields if isinstance(config.get(name), int | float)}
        sane = cls(**given)
        return sane if 0 <= sane.temperature <= 2 and 0 < sane.top_p <= 1 else cls()


class Limits(NamedTuple):
    """What the loaded engine can hold: positions of the model, KV rows of one request."""

    max_model_len: int
    max_rows: int


@dataclass
class ServedModel:
    """One checkpoint under one name. ``limits`` are known once the engine is loaded."""

    name: str
    tokenizer: Tokenizer | None
    template: ChatTemplate | None
    defaults: SamplingDefaults
    default_chat_tokens: int
    limits: Limits = field(default_factory=lambda: Limits(0, 0))
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def open(cls, folder: Path, name: str, default_chat_tokens: int) -> ServedModel:
        """Read a checkpoint's small files; :class:`CheckpointError` for one that cannot be used."""
        tokenizer = Tokenizer.open(folder) if Tokenizer.is_in(folder) else None
        return cls(
            name, tokenizer, ChatTemplate.open(folder), SamplingDefaults.read(folder), default_chat_tokens
        )

    def encode(self, prompt: str | list[int]) -> list[int]:
        """Return a prompt's token ids. May take long: not for the event loop."""
        if isinstance(prompt, list):
            return prompt
        if self.tokenizer is None:
            raise bad_request(
                "prompt: the checkpoint has no tokenizer.json, so text cannot be used; send token ids",
                param="prompt",
            )
        return self.tokenizer.encode(prompt)

    def job(self, prompt: Sequence[int], body: GenerationBody, new_tokens: int | None, param: str) -> Job:
        """Return what to generate; :class:`ApiError` for more than the model has positions for.

        ``new_tokens`` None asks for as many as a chat gets by default, or as fit. ``param`` names the prompt's field.
        """
        limit = self.limits.max_model_len
        wanted = self._default_new_tokens(len(prompt)) if new_tokens is None else new_tokens
        if len(prompt) + wanted > limit:
            raise bad_request(
                f"{param}: {len(prompt)} tokens, and up to {wanted} new ones, are more than the {limit} positions of "
                f"the model; shorten {param} or lower max_tokens",
                param=param,
                code="context_length_exceeded",
            )
        temperature = self.defaults.temperature if body.temperature is None else body.temperature
        top_p = self.defaults.top_p if body.top_p is None else body.top_p
        seed = secrets.randbits(63) if body.seed is None else body.seed % 2**63
        return Job(list(prompt), wanted, temperature, top_p, seed, bool(body.ignore_eos), body.num_logprobs)

    def _default_new_tokens(self, num_prompt: int) -> int:
        room = min(self.limits.max_model_len - num_prompt, self.limits.max_rows + 1 - num_prompt)
        return max(1, min(self.default_chat_tokens, room))
