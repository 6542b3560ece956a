"""Values → :class:`Settings`, and everything that is wrong with them. What is wrong is left out and the rest judged on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hisparse_engine.settings.given import Given, Problem, SettingPath, dotted
from hisparse_engine.settings.models import Settings

KEYS: dict[SettingPath, list[str]] = {
    (): list(Settings.model_fields),
    **{
        (name,): list(type(getattr(Settings(), name)).model_fields)
        for name in ("engine", "hisparse", "server", "metrics")
    },
}
"""The keys of the file and of each of its sections."""

_TYPES = {
    "int": "an integer", "float": "a number", "bool": "true or false", "string": "text", "path": "a path",
    "is": "a path", "model": "keys and values", "finite": "a finite number",
}  # fmt: skip
"""What was expected, by the first word of pydantic's name for the error."""


def validate(given: Given) -> tuple[Settings, list[Problem]]:
    """Return the settings without those that are wrong, and a problem for each of these.

    Strict: a file's ``"64"`` is no integer and its ``true`` is no 1. Flags and variables arrive here converted.
    """
    try:
        return Settings.model_validate(_nested(given), strict=True), []
    except ValidationError as error:
        problems = list(_problems(error, given))
    wrong = {problem.path for problem in problems}
    kept = {path: value for path, value in given.items() if path not in wrong and path[:1] not in wrong}
    settings, rest = validate(kept) if len(kept) < len(given) else (Settings(), [])
    return settings, problems + rest


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort problems as the settings are documented; what nobody knows comes last in its section."""

    def place(problem: Problem) -> tuple[int, ...]:
        parts = (problem.path[:i] for i in range(len(problem.path)))
        return tuple(_index(KEYS.get(part, []), key) for part, key in zip(parts, problem.path, strict=True))

    return sorted(problems, key=place)


def _index(keys: list[str], key: str) -> int:
    return keys.index(key) if key in keys else len(keys)


def _nested(given: Given) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for path, value in given.items():
        if len(path) == 1:
            data[path[0]] = value.value
    for path, value in given.items():
        section = data.setdefault(path[0], {}) if len(path) == 2 else None
        if isinstance(section, dict):
            section[path[1]] = value.value
    return data


def _problems(error: ValidationError, given: Given) -> Iterator[Problem]:
    for found in error.errors(include_url=False):
        path = tuple(str(part) for part in found["loc"][:2])
        inside = [key for key in given if key[: len(path)] == path]
        value = given[path].value if path in given else "keys and values"
        yield Problem(path, _words(found, path, value), given[inside[0]].origin)


def _words(found: ErrorDetails, path: SettingPath, value: object) -> str:
    if found["type"] == "extra_forbidden":
        return _unknown(path)
    limits = found.get("ctx", {})
    match found["type"]:
        case "literal_error":
            expected = str(limits["expected"])
        case "greater_than_equal":
            expected = f"{limits['ge']} or more"
        case "greater_than":
            expected = f"more than {limits['gt']}"
        case "less_than_equal":
            expected = f"at most {limits['le']}"
        case "string_too_short":
            expected = "text that is not empty"
        case other:
            expected = _TYPES.get(other.split("_")[0], found["msg"])
    return f"got {_shown(value)}, expected {expected}"


def _unknown(path: SettingPath) -> str:
    keys = KEYS[path[:-1]]
    section, _, name = path[-1].partition(".")
    if name in KEYS.get((section,), ()):
        return f"unknown key; write {name} under '{section}:'"
    elsewhere = [(*above, path[-1]) for above, names in KEYS.items() if path[-1] in names]
    close = [(*path[:-1], key) for key in difflib.get_close_matches(path[-1], keys, n=1)]
    for meant in elsewhere + close:
        return f"unknown key; did you mean {dotted(meant)}?"
    return f"unknown key; there are {', '.join(keys)}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):  # aliases can make a small file a large value
        return "a list" if isinstance(value, list) else "keys and values"
    text = (
        str(value)
        if isinstance(value, int | float)
        else repr(str(value) if isinstance(value, Path) else value)
    )
    return text if len(text) <= 80 else text[:77] + "..."
