"""Lines like the last ones, read in one go: a line's shape, learnt from a full reading, as one compiled pattern.

A server prints a few shapes of line, millions of times. The full reading goes field by field and is the grammar; a
shape is put together from what that reading found, with the same field tables, and is kept only if it reads its first
line to the same values. It matches whole lines, so it says no more than the full reading would. Without shapes
everything works, more slowly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hisparse_metrics.sglang.fields import Field, read_bool
from hisparse_metrics.sglang.records import Value

MAX_SHAPES = 16
_MAX_MEMO = 8192
_PREFIX = re.compile(r"\[([0-9.:A-Z_ -]{8,200})\] ", re.ASCII)
_WORDS = (
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), r"([0-9]{4}-[0-9]{2}-[0-9]{2})", "date"),
    (re.compile(r"[0-9:]{8}(?:\.[0-9]{1,9})?"), r"([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)", "time"),
)
_RANK = re.compile(r"([A-Z_]{1,64}P)[0-9]{1,9}", re.ASCII)


class Memo(dict[str, Value]):
    """What each text means; a log says the same few again and again. The form of a text tells its type."""

    def __missing__(self, text: str) -> Value:
        if len(self) >= _MAX_MEMO:
            self.clear()
        value = self[text] = _read(text)
        return value


def _read(text: str) -> Value:
    if text in {"True", "False"}:
        return read_bool(text)
    if ":" in text or "-" in text[1:]:
        return text
    return float(text) if "." in text else int(text)


class Shape:
    """One pattern and the keys of its groups. The loop over the groups runs in C."""

    def __init__(self, pattern: str, keys: list[str], constants: Mapping[str, Value], memo: Memo) -> None:
        self._match = re.compile(pattern, re.ASCII).fullmatch
        self._keys = tuple(keys)
        self._copy_constants = dict(constants).copy
        self._meaning = memo.__getitem__

    def read(self, line: str) -> dict[str, Value] | None:
        """Return the values of ``line``, or ``None`` when it has another shape."""
        found = self._match(line)
        if found is None:
            return None
        values = self._copy_constants()
        values.update(zip(self._keys, map(self._meaning, found.groups()), strict=False))
        return values


class Part(NamedTuple):
    """A piece of a pattern, and the keys of its groups."""

    pattern: str
    keys: list[str]


def learn(
    line: str, marker: str, fields: list[tuple[str, Field]], values: Mapping[str, Value], memo: Memo
) -> Shape | None:
    """Return the shape of ``line``, which the full reading read to ``values``; ``None`` when it has none.

    ``marker`` is the text between prefix and fields; ``fields`` are all its fields in order, none unknown.
    """
    prefix = _learn_prefix(line)
    if prefix is None or not fields:
        return None
    keys = prefix.keys + [key for _, field in fields for key in field.keys]
    constants = {"phase": values["phase"]}
    for _, field in fields:
        constants.update(field.constants)
    body = ", ".join(f"{re.escape(name)}: {field.form}" for name, field in fields)
    end = ", ?" if line.rstrip().endswith(",") else ""
    shape = Shape(prefix.pattern + _learn_marker(marker) + body + end, keys, constants, memo)
    return shape if _is_same(shape.read(line), values) else None


def _is_same(read: Mapping[str, Value] | None, values: Mapping[str, Value]) -> bool:
    return read == values and all(type(read[key]) is type(value) for key, value in values.items())


def _learn_marker(marker: str) -> str:
    return re.sub(r"\\\[[0-9]+\\\]", lambda _: r"\[[0-9]{1,18}\]", re.escape(marker))


def _learn_prefix(line: str) -> Part | None:
    found = _PREFIX.match(line)
    if found is None:
        return Part("", [])
    parts = [_learn_word(word) for word in found[1].split(" ")]
    known = [part for part in parts if part]
    if len(known) < len(parts):
        return None
    inside = " ".join(part.pattern for part in known)
    return Part(rf"\[{inside}\] ", [key for part in known for key in part.keys])


def _learn_word(word: str) -> Part | None:
    for form, pattern, key in _WORDS:
        if form.fullmatch(word):
            return Part(pattern, [key])
    rank = _RANK.fullmatch(word)
    return Part(f"{rank[1]}([0-9]{{1,9}})", [f"{rank[1].lower()}_rank"]) if rank else None


class Shapes:
    """The shapes met so far, the last used first. Their number is bounded: a log of ever new shapes is read slowly."""

    def __init__(self) -> None:
        self._shapes: list[Shape] = []
        self.memo = Memo()

    def __iter__(self) -> Iterator[Shape]:
        return iter(self._shapes)

    @property
    def is_full(self) -> bool:
        """Whether no shape can be added any more."""
        return len(self._shapes) >= MAX_SHAPES

    def add(self, shape: Shape) -> None:
        """Keep ``shape``, to be tried first."""
        self._shapes.insert(0, shape)

    def read(self, line: str) -> dict[str, Value] | None:
        """Return the values of ``line`` when it has a known shape."""
        for shape in self._shapes:
            values = shape.read(line)
            if values is not None:
                if shape is not self._shapes[0]:
                    self._shapes.remove(shape)
                    self._shapes.insert(0, shape)
                return values
        return None
