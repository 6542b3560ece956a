"""Write the generated files, or tell which of them are stale. What is generated depends on the config alone.

The repository has them where its documentation and packages want them; a deployer gets those that a deployment reads.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.models.dashboard import Dashboard

from hisparse_dashboards import (
    alert_docs,
    alertmanager,
    alerts,
    dashboard_docs,
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
DASHBOARD_DOCS = Path("docs/dashboards.md")
LIVE_PAGE = Path("metrics/hisparse_metrics/live/vocabulary.json")


def files(config: Config = DEFAULT) -> dict[Path, str]:
    """Return every generated file, by its path in the repository."""
    recordings = [rule.to_dict() for rule in recording.every_engine(config)]
    alerting = [alert.to_dict(config.runbook_base) for alert in alerts.all_alerts(config)]
    boards = every_dashboard(config)
    return {
        **{DASHBOARDS / f"{board.uid}.json": layout.render(board) for board in boards},
        RULES / "hisparse-recording.yml": rules.render("hisparse-recording", recordings),
        RULES / "hisparse-alerts.yml": rules.render("hisparse-alerts", alerting),
        ALERTMANAGER: alertmanager.render(config),
        ALERT_DOCS: alert_docs.render(config),
        DASHBOARD_DOCS: dashboard_docs.render(boards),
        LIVE_PAGE: live_page.render(config),
    }


def deployed(config: Config) -> dict[Path, str]:
    """Return what a deployment reads, by its path in a deployer's folder."""
    every = files(config)
    boards = {
        Path("dashboards") / path.name: text for path, text in every.items() if path.parent == DASHBOARDS
    }
    return boards | {
        path.relative_to("deploy"): text for path, text in every.items() if path.parts[0] == "deploy"
    }


def every_dashboard(config: Config = DEFAULT) -> list[Dashboard]:
    """Build all dashboards, the first to look at first."""
    return [overview.build(config), engine.build(config), sidecar.build(config)]


def write(root: Path, wanted: dict[Path, str]) -> list[Path]:
    """Write ``wanted`` under ``root`` and return what was written."""
    for path, text in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return list(wanted)


def check(root: Path, wanted: dict[Path, str], say: Callable[[str], None]) -> bool:
    """Return whether the files under ``root`` are those of ``wanted``; say how the stale ones differ."""
    stale = False
    for path, text in wanted.items():
        difference = _difference(root, path, text)
        for line in difference:
            say(line)
        stale = stale or bool(difference)
    return not stale


def remove_leftovers(root: Path, wanted: dict[Path, str]) -> None:
    """Remove the repository's generated files that are no longer made."""
    for path in leftovers(root, wanted):
        (root / path).unlink()


def leftovers(root: Path, wanted: dict[Path, str]) -> list[Path]:
    """Return files in the repository's generated folders that are not wanted."""
    found = [*(root / DASHBOARDS).glob("*.json"), *(root / RULES).glob("hisparse-*.yml")]
    return sorted(path.relative_to(root) for path in found if path.relative_to(root) not in wanted)


def _difference(root: Path, path: Path, wanted: str) -> list[str]:
    found = (root / path).read_text(encoding="utf-8") if (root / path).exists() else ""
    lines = difflib.unified_diff(
        found.splitlines(),
        wanted.splitlines(),
        f"{path} (committed)",
        f"{path} (generated)",
        lineterm="",
        n=1,
    )
    return list(lines)
