"""The shape of a line as one compiled pattern, and what the texts of its groups mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from hisparse_metrics.sglang.fields import read_bool
from hisparse_metrics.sglang.records import Value

_MAX_MEMO = 8192

Known = tuple[dict[str, Value], int]
"""The values of a record, and how many fields were unknown."""


class Memo(dict[str, Value]):
    """What each text means; a log says the same few again and again. The form of a text tells its type."""

    def __missing__(self, text: str) -> Value:
        if len(self) >= _MAX_MEMO:
            self.clear()
        value = self[text] = int(text) if text.isdigit() else _read(text)
        return value


def _read(text: str) -> Value:
    if text in {"True", "False"}:
        return read_bool(text)
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


class Part(NamedTuple):
    """A piece of a pattern, and the keys of its groups."""

    pattern: str
    keys: tuple[str, ...] = ()


class Shape:
    """One pattern and the keys of its groups. The loop over the groups runs in C."""

    def __init__(
        self, parts: list[Part], constants: Mapping[str, Value], unknown_fields: int, memo: Memo
    ) -> None:
        self._match = re.compile("".join(part.pattern for part in parts), re.ASCII).fullmatch
        self._keys = tuple(key for part in parts for key in part.keys)
        # A copy that has every key need not grow. All but the constants are overwritten.
        self._copy_template = {**constants, **dict.fromkeys(self._keys, 0)}.copy
        self._meaning = memo.__getitem__
        self._unknown_fields = unknown_fields

    def read(self, line: str) -> Known | None:
        """Return what ``line`` says, or ``None`` when it has another shape."""
        found = self._match(line)
        if found is None:
            return None
        values: dict[str, Value] = self._copy_template()
        values.update(zip(self._keys, map(self._meaning, found.groups()), strict=False))
        return values, self._unknown_fields
