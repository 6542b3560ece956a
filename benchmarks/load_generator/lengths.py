"""Lengths of prompts and answers, from a file: JSON lines, CSV, or ShareGPT's chats.

    {"prompt_tokens": 312, "output_tokens": 40}            one JSON object a line
    prompt_tokens,output_tokens                            CSV, with this header
    [{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}]

ShareGPT's questions are sent as they are. Its answers become lengths only: no tokenizer is at hand for every server,
so a token is taken for :data:`CHARACTERS` characters there.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.load_generator.settings import LoadError

CHARACTERS = 4
_FIELDS = ("prompt_tokens", "output_tokens")
_ASKING = ("human", "user")


@dataclass(frozen=True)
class Row:
    """One question and the length of its answer. ``text`` is set where the file has the question itself."""

    prompt_tokens: int
    output_tokens: int
    text: str | None = None


Conversation = tuple[Row, ...]
"""Questions that belong together; one where the file has lengths only."""


def read_lengths(path: Path) -> list[Conversation]:
    """Return what the file has; :class:`LoadError` names the place that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise LoadError(f"{path}: cannot be read ({reason}); name a file of lengths with --lengths") from None
    start = text.lstrip()[:1]
    if start == "[":
        found = _share_gpt(path, text)
    else:
        found = [(row,) for row in (_json_lines(path, text) if start == "{" else _csv(path, text))]
    if not found:
        raise LoadError(f"{path}: has no lengths; give each request a line with {' and '.join(_FIELDS)}")
    return found


def _json_lines(path: Path, text: str) -> Iterable[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield _row(path, number, json.loads(line))
            except ValueError as error:
                raise LoadError(f"{path}, line {number}: not JSON ({error})") from None


def _csv(path: Path, text: str) -> Iterable[Row]:
    reader = csv.DictReader(text.splitlines())
    if not set(_FIELDS) <= set(reader.fieldnames or ()):
        raise LoadError(f"{path}, line 1: the header must have {','.join(_FIELDS)}, got {text[:60]!r}")
    for values in reader:
        yield _row(path, reader.line_num, values)


def _row(path: Path, number: int, values: Any) -> Row:
    lengths: list[int] = []
    for field in _FIELDS:
        value = values.get(field) if isinstance(values, dict) else None
        try:
            lengths.append(int(str(value)))
        except ValueError:
            lengths.append(0)
        if lengths[-1] < 1:
            raise LoadError(f"{path}, line {number}: {field} must be a whole number from 1, got {value!r}")
    return Row(lengths[0], lengths[1])


def _share_gpt(path: Path, text: str) -> list[Conversation]:
    try:
        chats = [_conversation(chat["conversations"]) for chat in json.loads(text)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LoadError(
            f"{path}: not ShareGPT's form ({error!r}); it is a list of objects with conversations of from and value"
        ) from None
    return [chat for chat in chats if chat]


def _conversation(messages: list[dict[str, str]]) -> Conversation:
    """Take the questions that have an answer; others, as what a system said, are left out."""
    return tuple(
        Row(_tokens(question["value"]), _tokens(answer["value"]), question["value"])
        for question, answer in pairwise(messages)
        if question["from"] in _ASKING and answer["from"] not in _ASKING and question["value"].strip()
    )


def _tokens(text: str) -> int:
    return max(1, round(len(text) / CHARACTERS))
