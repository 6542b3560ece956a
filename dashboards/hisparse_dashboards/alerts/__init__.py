"""The alerts: when an operator is told, with which number, the likely cause and the first thing to do.

They read the recorded vocabulary, so that they hold for every engine that is recorded, and of the sidecar what it says
about the logs that it follows.
"""

from __future__ import annotations

from hisparse_dashboards.alerts import engine, host, index_keys, sidecar, swap_in, truth
from hisparse_dashboards.config import Config
from hisparse_dashboards.rules import Alert


def all_alerts(config: Config) -> list[Alert]:
    """Return every alert, grouped by what it is about, the worst group first."""
    groups = (engine, truth, host, index_keys, swap_in, sidecar)
    return [alert for group in groups for alert in group.alerts(config)]
