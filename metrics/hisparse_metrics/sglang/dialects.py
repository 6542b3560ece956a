"""From the text after a marker to values: ``name: value`` fields of one phase, in any order, checked as a whole.

What was cut or spliced must not become a number. So one bad field spoils its record, as does half of a pair, a field
of the other phase, a field that comes twice, or an end at which a number may have been cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from hisparse_metrics.sglang.fields import DECODE, PREFILL, Field
from hisparse_metrics.sglang.records import Value

MAX_BODY = 8192
_MAX_FIELDS = 64


@dataclass(frozen=True, slots=True)
class Phase:
    """One kind of line: its word, its fields, and which keys a whole record has.

    Each group in ``together`` is in a record wholly or not at all; ``one_of``: at least one of these is.
    """

    name: str
    word: str
    fields: Mapping[str, Field]
    required: frozenset[str]
    one_of: frozenset[str] = frozenset()
    together: tuple[frozenset[str], ...] = ()


PHASES = {
    "Decode": Phase(
        "decode",
        "Decode",
        DECODE,
        required=frozenset({"running_requests", "generation_throughput", "waiting_requests"}),
        one_of=frozenset({"tokens", "full_tokens", "device_tokens"}),
        together=(
            frozenset({"tokens", "token_usage"}),
            frozenset({"full_tokens", "full_token_usage"}),
            frozenset({"swa_tokens", "swa_token_usage"}),
            frozenset({"mamba_slots", "mamba_usage"}),
            frozenset({"device_tokens", "device_token_usage", "host_tokens", "host_token_usage"}),
        ),
    ),
    "Prefill": Phase(
        "prefill",
        "Prefill",
        PREFILL,
        required=frozenset({"new_sequences", "new_tokens", "cached_tokens", "waiting_requests"}),
    ),
}
_ANY_FIELD = DECODE.keys() | PREFILL.keys()


class Body(NamedTuple):
    """What the text after a marker says. ``names`` are all its fields in the order of the line."""

    values: dict[str, Value]
    names: tuple[str, ...]
    unknown_fields: int


class MalformedError(ValueError):
    """The text is not one whole record."""


def read_body(phase: Phase, separator: str, text: str) -> Body:
    """Read the fields after ``Decode batch`` and ``separator`` ("," or "."), or raise :class:`MalformedError`."""
    if len(text) > MAX_BODY:
        raise MalformedError
    text = text.rstrip()
    is_ended = text.endswith(",")
    parts = list(_split(text.removesuffix(",")))
    values: dict[str, Value] = {"phase": phase.name}
    names = tuple(_read_field(phase, part, values) for part in parts)
    _check_whole(phase, values)
    if not (is_ended or _may_end_with(phase, separator, parts[-1])):
        raise MalformedError
    return Body(values, names, sum(name not in phase.fields for name in names))


def _split(text: str) -> Iterator[str]:
    """Split at commas; one comma within brackets belongs to its value."""
    parts = iter(text.split(", ", _MAX_FIELDS))
    for part in parts:
        if part.count("[") > part.count("]"):
            yield f"{part}, {next(parts, '')}"
        else:
            yield part


def _read_field(phase: Phase, part: str, values: dict[str, Value]) -> str:
    """Put one field's values into ``values``, unless no version that we know has it; return its name."""
    name, colon, text = part.partition(": ")
    known = phase.fields.get(name)
    if known is None:
        if not (colon and name and text) or name in _ANY_FIELD:
            raise MalformedError
        return name
    found = _pattern(known.form).fullmatch(text)
    if found is None or known.keys[0] in values:
        raise MalformedError
    values.update(known.constants)
    values.update(zip(known.keys, map(known.read, found.groups()), strict=True))
    return name


@cache
def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(form, re.ASCII)


def _check_whole(phase: Phase, values: Mapping[str, Value]) -> None:
    keys = values.keys()
    if not phase.required <= keys or (phase.one_of and not phase.one_of & keys):
        raise MalformedError
    if any(group & keys and not group <= keys for group in phase.together):
        raise MalformedError


def _may_end_with(phase: Phase, separator: str, part: str) -> bool:
    """Tell whether a record may end here without a comma: not in a count that more digits could follow.

    Decode lines do end with the queue's length, as did prefill lines as long as they began with ``batch.``.
    """
    name = part.partition(": ")[0]
    known = phase.fields.get(name)
    if known is None or known.is_closed:
        return True
    return name == "#queue-req" and (phase.name == "decode" or separator == ".")
