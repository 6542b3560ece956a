"""Reads typed fields out of plain values; whatever is wrong becomes a line with its path, and a default goes on."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class Fields:
    """One section of a configuration. ``problems`` is shared by all sections."""

    def __init__(self, data: object, path: str, problems: list[str]) -> None:
        self._path = path
        self._problems = problems
        self._known: list[str] = []
        self._data: Mapping[object, object] = data if isinstance(data, Mapping) else {}
        if data is not None and not isinstance(data, Mapping):
            problems.append(f"{path.rstrip('.') or 'the whole'}: got {data!r}, expected a mapping")

    def section(self, name: str) -> Fields:
        """Return the section under ``name``; it may be missing."""
        return Fields(self._get(name), f"{self._path}{name}.", self._problems)

    def text(self, name: str) -> str:
        """Return a text; empty when missing."""
        value = self._get(name)
        if value is not None and (not isinstance(value, str) or not value):
            return self._wrong(name, value, "a text that is not empty", "")
        return value or ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; one text is a list of one."""
        value = self._get(name)
        items = [value] if isinstance(value, str) else value
        if items is None:
            return ()
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) and item for item in items):
            return self._wrong(name, value, "a text or a list of texts", ())
        return tuple(items)

    def flag(self, name: str) -> bool:
        """Return true or false; false when missing."""
        value = self._get(name)
        if value is not None and not isinstance(value, bool):
            return self._wrong(name, value, "true or false", False)
        return bool(value)

    def positive(self, name: str, default: float) -> float:
        """Return a number above 0."""
        value = self._get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            return self._wrong(name, value, "a number of seconds above 0", default)
        return float(value)

    def path(self, name: str) -> Path | None:
        """Return a path, with ``~`` expanded; ``None`` when missing."""
        value = self._get(name)
        if isinstance(value, Path):
            return value
        return Path(text).expanduser() if (text := self.text(name)) else None

    def complain(self, name: str, message: str) -> None:
        """Add a line about a field."""
        self._problems.append(f"{self._path}{name}: {message}")

    def refuse_others(self) -> None:
        """Add a line for every field that was not asked for."""
        for name in self._data:
            if name not in self._known:
                close = difflib.get_close_matches(str(name), self._known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(self._known)}"
                self.complain(str(name), f"unknown field; {hint}")

    def _get(self, name: str) -> object:
        if name not in self._known:
            self._known.append(name)
        return self._data.get(name)

    def _wrong(self, name: str, value: object, expected: str, default: T) -> T:
        self.complain(name, f"got {value!r}, expected {expected}")
        return default
