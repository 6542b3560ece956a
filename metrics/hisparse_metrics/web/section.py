"""A mapping of a YAML file under checks: typed reads that note every problem with its path, instead of raising."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

T = TypeVar("T")
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Section:
    """One mapping; ``problems`` and ``warnings`` are shared by all sections of a file."""

    def __init__(self, raw: object, path: str, problems: list[str], warnings: list[str]) -> None:
        self._path = path
        self.problems = problems
        self.warnings = warnings
        if not isinstance(raw, Mapping | None):
            self.reject("", f"expected keys and values, got {kind(raw)}")
            raw = None
        self._raw: dict[object, object] = dict(raw or {})
        self._asked: set[object] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def reject(self, key: str, reason: str) -> None:
        """Note a problem of ``key``, or of the section itself."""
        self.problems.append(f"{self.name(key)}: {reason}")

    def warn(self, key: str, text: str) -> None:
        """Note something that is no error."""
        self.warnings.append(f"{self.name(key)}: {text}")

    def name(self, key: str) -> str:
        """Return the path of ``key`` in the file."""
        return ".".join(filter(None, [self._path, key])) or "file"

    def peek(self, key: str) -> object:
        """Return the raw value under ``key``."""
        return self._take(key)

    def section(self, key: str) -> Section:
        """Return the mapping under ``key``; an empty one when there is none."""
        return Section(self._take(key), self.name(key), self.problems, self.warnings)

    def text(self, key: str) -> str:
        """Return the string under ``key``, else an empty one."""
        return self._typed(key, str, "")

    def flag(self, key: str, default: bool) -> bool:
        """Return the boolean under ``key``."""
        return self._typed(key, bool, default)

    def integer(self, key: str, default: int) -> int:
        """Return the integer under ``key``."""
        if isinstance(self._raw.get(key), bool):
            self.reject(key, "expected an integer, got a boolean")
        return self._typed(key, int, default)

    def texts(self, key: str) -> list[str]:
        """Return the list of strings under ``key``."""
        found = self._typed(key, list, [])
        for index, item in enumerate(found):
            if not isinstance(item, str):
                self.reject(f"{key}[{index}]", f"expected a string, got {kind(item)}")
        return [item for item in found if isinstance(item, str)]

    def choice(self, key: str, choices: Mapping[str, T], default: str) -> T:
        """Return what the name under ``key`` stands for."""
        name = self.text(key) or default
        if name not in choices:
            self.reject(key, f"got {name!r}, expected one of {', '.join(choices)}")
        return choices.get(name, choices[default])

    def entries(self) -> dict[str, str]:
        """Return all keys and values of a section whose keys are a person's own; both have to be strings."""
        self._asked |= self._raw.keys()
        for key, value in self._raw.items():
            if not (isinstance(key, str) and isinstance(value, str)):
                self.reject(str(key), f"expected text for text, got {kind(key)} and {kind(value)}; quote it")
        return {k: v for k, v in self._raw.items() if isinstance(k, str) and isinstance(v, str)}

    def finish(self, also_known: Mapping[str, str] = _NOTHING) -> None:
        """Reject the keys that nobody asked for; ``also_known`` has those with a reason of their own."""
        for key in self._raw.keys() - self._asked:
            self.reject(str(key), also_known.get(str(key), "unknown key"))

    def _typed(self, key: str, wanted: type[T], default: T) -> T:
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, wanted):
            self.reject(key, f"expected {_WORDS[wanted]}, got {kind(value)}")
            return default
        return value

    def _take(self, key: str) -> object:
        self._asked.add(key)
        return self._raw.get(key)


_WORDS: dict[type, str] = {
    str: "a string", bool: "true or false", int: "an integer", list: "a list", dict: "keys and values",
    float: "a number", type(None): "nothing",
}  # fmt: skip


def kind(value: object) -> str:
    """Return a person's word for the type of a YAML value; never the value, which may be a secret."""
    return _WORDS.get(type(value), f"a {type(value).__name__}")
