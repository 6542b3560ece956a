"""Write the generated files, or tell which of them are stale. What is generated depends on the config alone."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.models.dashboard import Dashboard

from hisparse_dashboards import (
    alert_docs,
    alertmanager,
    alerts,
    engine,
    layout,
    live_page,
    overview,
    recording,
    rules,
    sidecar,
)
from hisparse_dashboards.config import DEFAULT, Config

DASHBOARDS = Path("dashboards/generated")
RULES = Path("deploy/prometheus/rules")
ALERTMANAGER = Path("deploy/alertmanager/alertmanager.yml")
ALERT_DOCS = Path("docs/alerts.md")
LIVE_PAGE = Path("metrics/hisparse_metrics/live/vocabulary.json")


def files(config: Config = DEFAULT) -> dict[Path, str]:
    """Return every generated file, by its path in the repository."""
    recordings = [rule.to_dict() for rule in recording.every_engine(config)]
    alerting = [alert.to_dict(config.runbook_base) for alert in alerts.all_alerts(config)]
    return {
        **{DASHBOARDS / f"{board.uid}.json": layout.render(board) for board in every_dashboard(config)},
        RULES / "hisparse-recording.yml": rules.render("hisparse-recording", recordings),
        RULES / "hisparse-alerts.yml": rules.render("hisparse-alerts", alerting),
        ALERTMANAGER: alertmanager.render(config),
        ALERT_DOCS: alert_docs.render(config),
        LIVE_PAGE: live_page.render(config),
    }


def every_dashboard(config: Config = DEFAULT) -> list[Dashboard]:
    """Build all dashboards, the first to look at first."""
    return [overview.build(config), engine.build(config), sidecar.build(config)]


def write(root: Path) -> list[Path]:
    """Write all files under ``root`` and remove generated ones that are no longer made; return what was written."""
    wanted = files()
    for path, text in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    for path in _leftovers(root, wanted):
        (root / path).unlink()
    return list(wanted)


def check(root: Path, say: Callable[[str], None]) -> bool:
    """Return whether the files under ``root`` are what would be generated now; say how the stale ones differ."""
    wanted = files()
    stale = False
    for path in [*wanted, *_leftovers(root, wanted)]:
        difference = list(_difference(root, path, wanted.get(path, "")))
        for line in difference:
            say(line)
        stale = stale or bool(difference)
    return not stale


def _difference(root: Path, path: Path, wanted: str) -> list[str]:
    found = (root / path).read_text(encoding="utf-8") if (root / path).exists() else ""
    if found and not wanted:
        return [f"{path}: not generated any more"]
    lines = difflib.unified_diff(
        found.splitlines(),
        wanted.splitlines(),
        f"{path} (committed)",
        f"{path} (generated)",
        lineterm="",
        n=1,
    )
    return list(lines)


def _leftovers(root: Path, wanted: dict[Path, str]) -> list[Path]:
    """Return files in the generated folders that are not wanted."""
    found = [*(root / DASHBOARDS).glob("*.json"), *(root / RULES).glob("hisparse-*.yml")]
    return sorted(path.relative_to(root) for path in found if path.relative_to(root) not in wanted)
