"""From a line that was read field by field to its shape: prefix, marker and fields, as the field tables print them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from hisparse_metrics.sglang.fields import Field
from hisparse_metrics.sglang.shape import Known, Memo, Part, Shape

_RAY = re.compile(r"(\([^()]{1,128} pid=)[0-9]{1,10}(, ip=)?", re.ASCII)
_BRACKET = re.compile(r"\[([0-9.:A-Z_ -]{8,200})\] ", re.ASCII)
_WORDS = (
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), r"([0-9]{4}-[0-9]{2}-[0-9]{2})", "date"),
    (re.compile(r"[0-9:]{8}(?:\.[0-9]{1,9})?"), r"([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)", "time"),
)
_RANK = re.compile(r"([A-Z_]{1,64}P)[0-9]{1,9}", re.ASCII)
_UNKNOWN = r"[^,\[\]\s]{1,64}"


class Source(NamedTuple):
    """A line that the full reading read: the texts before its marker, of it, behind it; its phase and fields."""

    head: str
    marker: str
    body: str
    fields: Mapping[str, Field]
    names: tuple[str, ...]


def learn(source: Source, known: Known, memo: Memo) -> Shape | None:
    """Return the shape of a line that was read to ``known``; ``None`` when it has none."""
    prefix = _learn_prefix(source.head)
    if prefix is None:
        return None
    fields = [source.fields.get(name) for name in source.names]
    constants = {"phase": known[0]["phase"]}
    for field in fields:
        constants.update(field.constants if field else {})
    body = [_learn_field(name, field) for name, field in zip(source.names, fields, strict=True)]
    between = [part for pair in zip(body, [Part(", ")] * len(body), strict=True) for part in pair][:-1]
    end = Part(", ?" if source.body.rstrip().endswith(",") else "")
    shape = Shape([*prefix, _learn_marker(source.marker), *between, end], constants, known[1], memo)
    return shape if _is_same(shape.read(source.head + source.marker + source.body), known) else None


def _is_same(read: Known | None, known: Known) -> bool:
    """Tell whether both say the same in the same types: ``1``, ``1.0`` and ``True`` are equal."""
    return read == known and all(type(read[0][key]) is type(value) for key, value in known[0].items())


def _learn_field(name: str, field: Field | None) -> Part:
    form, keys = (field.form, field.keys) if field else (_UNKNOWN, ())
    return Part(f"{re.escape(name)}: {form}", keys)


def _learn_marker(marker: str) -> Part:
    return Part(re.sub(r"\\\[[0-9]+\\\]", lambda _: r"\[[0-9]{1,18}\]", re.escape(marker)))


def _learn_prefix(head: str) -> list[Part] | None:
    """Return the parts for all of ``head``: nothing, or a bracket of words that we know, under Ray or not."""
    ray = _RAY.match(head)
    start = head.find(") ") + 2 if ray else 0
    parts = [_learn_ray(ray)] if ray else []
    if start == len(head):
        return parts
    bracket = _BRACKET.fullmatch(head, start)
    words = [_learn_word(word) for word in bracket[1].split(" ")] if bracket else [None]
    known = [word for word in words if word]
    if len(known) < len(words):
        return None
    inside = " ".join(word.pattern for word in known)
    return [*parts, Part(rf"\[{inside}\] ", tuple(key for word in known for key in word.keys))]


def _learn_ray(ray: re.Match[str]) -> Part:
    pid = re.escape(ray[1]) + "([0-9]{1,10})"
    if ray[2] is None:
        return Part(rf"{pid}\) ", ("ray_pid",))
    return Part(rf"{pid}, ip=([0-9A-Fa-f.:]{{2,45}})\) ", ("ray_pid", "ray_ip"))


def _learn_word(word: str) -> Part | None:
    for form, pattern, key in _WORDS:
        if form.fullmatch(word):
            return Part(pattern, (key,))
    rank = _RANK.fullmatch(word)
    return Part(f"{rank[1]}([0-9]{{1,9}})", (f"{rank[1].lower()}_rank",)) if rank else None
