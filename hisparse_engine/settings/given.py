"""Values as a person gave them, each with the place that it came from. Knows no rule; needs no package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from hisparse_engine.errors import ConfigError

SettingPath: TypeAlias = tuple[str, ...]
"""Where a setting is in the file: ``("hisparse", "host_tokens")``, ``("model",)``."""


class Value(NamedTuple):
    """One value and its origin: ``--host-tokens``, ``HISPARSE_HOST_TOKENS``, ``hisparse.yaml:12``."""

    value: object
    origin: str


Given: TypeAlias = Mapping[SettingPath, Value]


class Problem(NamedTuple):
    """What is wrong with one setting; ``text`` says what was expected, or what to do."""

    path: SettingPath
    text: str
    origin: str = ""

    def __str__(self) -> str:
        """Return the line for a person."""
        line = f"{dotted(self.path)}: {self.text}"
        return f"{line} ({self.origin})" if self.origin else line


class SettingsError(ConfigError):
    """One or more settings are wrong: ``problems`` has all of them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems]
        heading = f"the configuration has {len(lines)} problems:"
        super().__init__(lines[0] if len(lines) == 1 else "\n  ".join([heading, *lines]))


def dotted(path: SettingPath) -> str:
    """Return a path as people write it."""
    return ".".join(path)


def flag_of(path: SettingPath) -> str:
    """Return the flag of a setting."""
    return "--" + path[-1].replace("_", "-")
