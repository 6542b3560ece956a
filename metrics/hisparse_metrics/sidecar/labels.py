"""The labels of a log's series: whose engine it is, by configuration, by the path, or by default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from hisparse_metrics.sidecar.ranks import RankKey

DEFAULT_ENGINE_NAME = "sglang"
PLACEHOLDERS = ("source", "stem", "namespace", "pod", "container")
_POD_PATH = re.compile(r".*/pods/(?P<namespace>[^/_]+)_(?P<pod>[^/_]+)_[^/]+/(?P<container>[^/]+)/[^/]+")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True)
class EngineLabels:
    """What identifies an engine; either may hold ``{pod}`` and the other placeholders.

    An empty ``engine_name`` means the pod's name where the path has one, else ``sglang``.
    """

    model: str = ""
    engine_name: str = ""

    def of_log(self, source: str) -> dict[str, str]:
        """Return the labels of the engine that writes ``source``."""
        parts = path_parts(source)
        name = self.engine_name or parts["pod"] or DEFAULT_ENGINE_NAME
        return {"engine_name": fill(name, parts), "model_name": fill(self.model, parts)}

    def of_rank(self, source: str, key: RankKey) -> dict[str, str]:
        """Return all labels of one rank's series."""
        return self.of_log(source) | key.labels() | {"source": source}


def path_parts(source: str) -> dict[str, str]:
    """Return what a log's name tells, by placeholder; empty what it does not."""
    parts = dict.fromkeys(PLACEHOLDERS, "") | {"source": source, "stem": PurePath(source).stem}
    found = _POD_PATH.fullmatch(source)
    return parts | (found.groupdict() if found else {})


def fill(template: str, parts: dict[str, str]) -> str:
    """Put the parts into a template."""
    return _PLACEHOLDER.sub(lambda match: parts.get(match[1], match[0]), template)


def unknown_placeholders(template: str) -> list[str]:
    """Return the placeholders of a template that nobody fills."""
    return [name for name in _PLACEHOLDER.findall(template) if name not in PLACEHOLDERS]
