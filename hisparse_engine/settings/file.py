"""A settings file (YAML, or JSON, which is YAML) → values with their lines. Knows no setting, only the file's form."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hisparse_engine.errors import ConfigError
from hisparse_engine.settings.given import Problem, SettingPath, Value


@dataclass(frozen=True)
class SettingsFile:
    """What stands in ``path``: values of one or two levels of keys, and what is wrong with its form."""

    path: Path
    values: dict[SettingPath, Value] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_settings_file(path: Path) -> SettingsFile:
    """Read ``path``; :class:`ConfigError` when it cannot be read or is no YAML. A key without a value is not given."""
    yaml = _yaml(path)
    text = _read(path)
    try:
        loader = yaml.SafeLoader(text)
        try:
            return _walk(path, loader, loader.get_single_node())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no valid YAML: {' '.join(str(error).split())}; correct it") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; sections with settings are all there is") from None


def _yaml(path: Path) -> Any:
    try:
        return importlib.import_module("yaml")
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path}: PyYAML is not installed, and a settings file is YAML; "
            "run: pip install 'hisparse[engine,serve]', or give flags and environment variables instead"
        ) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}; choose another with --config") from None


def _walk(path: Path, loader: Any, root: Any) -> SettingsFile:
    found = SettingsFile(path)
    if root is None or _is_null(root):
        return found
    if root.id != "mapping":
        raise ConfigError(f"{path}: expected sections such as 'hisparse:', got no keys and values at all")
    for key, node in _entries(found, loader, root, ()):
        if node.id == "mapping":
            for inner, leaf in _entries(found, loader, node, (key,)):
                _put(found, loader, (key, inner), leaf)
        else:
            _put(found, loader, (key,), node)
    return found


def _entries(found: SettingsFile, loader: Any, mapping: Any, above: SettingPath) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a mapping, each once; a second time is a problem."""
    first: dict[str, int] = {}
    for key_node, node in mapping.value:
        line = key_node.start_mark.line + 1
        key = str(key_node.value) if key_node.id == "scalar" else f"a key that is a {key_node.id}"
        key = key if key.isprintable() else repr(key)
        if key in first:
            problem = f"is there twice, first in line {first[key]}; keep one"
            found.problems.append(Problem((*above, key), problem, f"{found.path}:{line}"))
            continue
        first[key] = line
        yield key, node


def _put(found: SettingsFile, loader: Any, path: SettingPath, node: Any) -> None:
    origin = f"{found.path}:{node.start_mark.line + 1}"
    if not _is_null(node):
        found.values[path] = Value(loader.construct_object(node, deep=True), origin)


def _is_null(node: Any) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")
