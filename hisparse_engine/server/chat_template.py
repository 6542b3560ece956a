"""A checkpoint's chat template: from messages to the text that the model was trained on.

Templates are programs from the checkpoint, written for Hugging Face's renderer: they run in Jinja's sandbox with the
same helpers and whitespace rules. What they may see are values; none of ours is reachable from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hisparse_engine.errors import CheckpointError, HiSparseError

_CONFIG = "tokenizer_config.json"
_FILE = "chat_template.jinja"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TemplateRefusalError(HiSparseError):
    """The template does not take these messages; the message says why, in the template's words."""


class ChatTemplate:
    """A compiled template with the checkpoint's special tokens."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], origin: Path) -> None:
        """Compile; :class:`CheckpointError` when ``source`` is no template. ``origin`` is for messages."""
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise CheckpointError(f"{origin}: the chat template cannot be read ({error})") from None
        self._special_tokens = dict(special_tokens)

    @classmethod
    def open(cls, folder: Path) -> ChatTemplate | None:
        """Return ``folder``'s template, or None when it has none."""
        config = _read_config(folder / _CONFIG)
        special = {name: text for name in _SPECIAL if (text := _token_text(config.get(name))) is not None}
        file = folder / _FILE
        if file.exists():
            return cls(file.read_text(encoding="utf-8"), special, file)
        source = _default(config.get("chat_template"))
        return None if source is None else cls(source, special, folder / _CONFIG)

    def render(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any] | None = None
    ) -> str:
        """Return the prompt that asks for the next message; :class:`TemplateRefusalError` when there is none.

        ``variables`` are further values that the template may ask for.
        """
        given = {**self._special_tokens, **(variables or {})}
        try:
            return self._template.render(
                given, messages=list(messages), tools=None, documents=None, add_generation_prompt=True
            )
        except Exception as error:  # noqa: BLE001 - a template is a program of somebody else's
            raise TemplateRefusalError(f"the model's chat template does not take this: {error}") from None


class _GenerationTag(Extension):
    """``{% generation %}`` marks what an assistant wrote, for training; for a prompt it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the content."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter would escape for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); download it again") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: must be a JSON object; download it again")
    return config


def _token_text(value: Any) -> str | None:
    """Return a special token's text, which is written in one of two ways."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _default(value: Any) -> str | None:
    """Return the template out of a single one or a list of named ones."""
    if isinstance(value, list):
        named = {one["name"]: one["template"] for one in value if isinstance(one, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None
