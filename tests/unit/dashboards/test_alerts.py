"""Every alert carries what a person who is woken needs, and its runbook exists and speaks of the same things."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hisparse_dashboards import alerts
from hisparse_dashboards.config import DEFAULT
from hisparse_dashboards.recording import every_engine
from hisparse_dashboards.rules import Alert
from tests.support.dashboard_json import exposed_names, promql_blocks, selectors

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = alerts.all_alerts(DEFAULT)
RECORDED = {rule.name for rule in every_engine(DEFAULT)}
HEADINGS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.severity}")


@each_alert
def test_alert_is_complete(alert: Alert) -> None:
    assert re.fullmatch(r"HiSparse[A-Z][A-Za-z]+", alert.name)
    assert alert.severity in {"warning", "critical"}
    assert re.fullmatch(r"\d+[sm]", alert.hold)
    assert "$value" in alert.summary, "the summary must have the number"
    assert "$labels.instance" in alert.summary
    assert "Likely causes:" in alert.description
    assert "First:" in alert.description


@each_alert
def test_alert_links_its_runbook_whose_heading_is_its_name(alert: Alert) -> None:
    url = alert.to_dict(DEFAULT.runbook_base)["annotations"]["runbook_url"]
    lines = (ROOT / url).read_text().splitlines()
    assert lines[0] == f"# {alert.name}"
    assert [line for line in lines if line.startswith("## ")] == HEADINGS


def test_a_published_address_becomes_the_link() -> None:
    rule = ALERTS[0].to_dict("https://runbooks.example/")
    assert rule["annotations"]["runbook_url"] == f"https://runbooks.example/{ALERTS[0].name}.md"


def test_every_runbook_has_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_runbook_queries_name_only_series_that_exist(path: Path) -> None:
    exprs = promql_blocks(path.read_text())
    assert exprs, "a diagnosis needs queries"
    for expr in exprs:
        names = {selector.name for selector in selectors(expr)}
        assert names
        assert not names - exposed_names() - RECORDED - {"up"}


@each_alert
def test_alert_reads_only_the_recorded_vocabulary(alert: Alert) -> None:
    assert {selector.name for selector in selectors(alert.expr)} <= RECORDED | {"up"}


def test_runbook_of_host_usage_states_the_thresholds() -> None:
    text = (RUNBOOKS / "HiSparseHostUsageHigh.md").read_text()
    limits = DEFAULT.thresholds
    assert f"warning above {limits.host_usage_warning:.0%}".replace("%", " %") in text
    assert f"critical above {limits.host_usage_critical:.0%}".replace("%", " %") in text
