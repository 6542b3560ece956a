"""The dashboards' colours and levels, as they are generated for the live page: one set of numbers for all that draws."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.resources import files
from typing import Any

_FILE = ("live", "vocabulary.json")


class Severity(IntEnum):
    """How bad a value is."""

    FINE = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Colours by meaning; by panel, the values from which on a severity holds; when an engine counts as stalled."""

    colors: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, tuple[tuple[float, Severity], ...]] = field(default_factory=dict)
    stalled_seconds: float = math.inf

    def severity(self, panel: str, value: float | None) -> Severity:
        """Return how the dashboards colour ``value`` on ``panel``."""
        if value is None:
            return Severity.FINE
        reached = [severity for start, severity in self.levels.get(panel, ()) if round(value, 9) >= start]
        return reached[-1] if reached else Severity.FINE

    def silence(self, seconds: float | None) -> Severity:
        """Return how bad it is that an engine at work took its last step so long ago."""
        if seconds is None or seconds < self.stalled_seconds / 2:
            return Severity.FINE
        return Severity.WARNING if seconds < self.stalled_seconds else Severity.CRITICAL


def load_vocabulary() -> Vocabulary:
    """Return what the dashboards generated; it is part of the package."""
    return parse_vocabulary(json.loads(files("hisparse_metrics").joinpath(*_FILE).read_text()))


def parse_vocabulary(generated: Mapping[str, Any]) -> Vocabulary:
    """Read the colours and the panels' thresholds; what else the live page needs is skipped."""
    colors = dict(generated["colors"])
    panels = [panel for group in generated["groups"] for panel in group["panels"]]
    return Vocabulary(
        colors,
        {panel["id"]: _levels(panel["thresholds"], colors) for panel in panels if panel["thresholds"]},
        float(generated["stalled_seconds"]),
    )


def _levels(steps: list[dict[str, Any]], colors: Mapping[str, str]) -> tuple[tuple[float, Severity], ...]:
    meaning = {colors["warning"]: Severity.WARNING, colors["critical"]: Severity.CRITICAL}
    return tuple(
        (-math.inf if step["from"] is None else step["from"], meaning.get(step["color"], Severity.FINE))
        for step in steps
    )
