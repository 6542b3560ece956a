"""Every setting in words: where it is set, what it may be, its default, its meaning. Made from flags and models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hisparse_engine.commands.options import SETTINGS, SettingSpec
from hisparse_engine.settings.given import dotted
from hisparse_engine.settings.models import Settings

_HEAD = """\
# hisparse.yaml: settings of hisparse serve, generate and demo, by section.
# Environment variables (HISPARSE_<NAME>) go before this file, flags (--<name>) before both.
# Relative paths are relative to this file. What is commented out has its default.
# Check it with: hisparse config check --config hisparse.yaml
"""


@dataclass(frozen=True)
class Entry:
    """One setting. ``value`` is its default for the file; None where there is none, or it is derived."""

    spec: SettingSpec
    accepts: str
    value: object

    @property
    def path(self) -> str:
        """Where it is in the file."""
        return dotted(self.spec.path)


def entries() -> Iterator[Entry]:
    """Yield every setting, in the file's order."""
    schema = Settings.model_json_schema(mode="validation")
    defaults = Settings()
    for spec in SETTINGS:
        *section, name = spec.path
        owner: Any = getattr(defaults, section[0]) if section else defaults
        properties = schema["$defs"][type(owner).__name__]["properties"] if section else schema["properties"]
        yield Entry(spec, _accepts(properties[name]), getattr(owner, name))


def as_yaml() -> str:
    """Return a settings file in which every setting is commented out."""
    lines, current = [_HEAD], ""
    for entry in entries():
        *section, name = entry.spec.path
        if section and section[0] != current:
            current = section[0]
            lines.append(f"{current}:")
        indent = "  " if section else ""
        lines.append(f"{indent}# {entry.spec.help}")
        lines.append(f"{indent}# {entry.accepts}; {_default(entry)}")
        lines.append(f"{indent}#{name}: {_yaml(entry.value)}".rstrip())
        lines.append("")
    return "\n".join(lines)


def _default(entry: Entry) -> str:
    return f"default: {entry.spec.default}" if entry.spec.default else "no default"


def _yaml(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _accepts(field: dict[str, Any]) -> str:
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    kind = kinds[0]
    if "enum" in kind:
        return " or ".join(kind["enum"])
    if kind.get("type") in ("integer", "number"):
        return f"{kind['type']}{_range(kind)}"
    if kind.get("type") == "boolean":
        return "true or false"
    return "path" if kind.get("format") == "path" else "text"


def _range(kind: dict[str, Any]) -> str:
    low, above, high = kind.get("minimum"), kind.get("exclusiveMinimum"), kind.get("maximum")
    words = [f"{low:g} or more"] if low is not None else [f"above {above:g}"] if above is not None else []
    if high is not None and high < 2**20:
        words.append(f"at most {high:g}")
    return ", ".join(["", *words])
