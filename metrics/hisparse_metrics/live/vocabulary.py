"""What the dashboards call things and when they worry: ``vocabulary.json``, which ``python -m hisparse_dashboards`` writes."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

FILE = "vocabulary.json"


@cache
def vocabulary_bytes() -> bytes:
    """Return the file as it is served."""
    return resources.files("hisparse_metrics.live").joinpath(FILE).read_bytes()


@cache
def usage_levels() -> tuple[float, ...]:
    """Return the host usages from which on the dashboards and the alerts worry, in ascending order."""
    panels = [panel for group in json.loads(vocabulary_bytes())["groups"] for panel in group["panels"]]
    [steps] = [panel["thresholds"] for panel in panels if panel["id"] == "host-usage"]
    return tuple(step["from"] for step in steps if step["from"] is not None)


@cache
def stalled_seconds() -> float:
    """Return how long an engine with running requests may take no step."""
    return float(json.loads(vocabulary_bytes())["stalled_seconds"])
