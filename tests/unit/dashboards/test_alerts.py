"""Every alert carries what a person who is woken needs, reads what holds for every engine, and is on the alerts page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hisparse_dashboards import alert_docs, alertmanager, alerts
from hisparse_dashboards.config import DEFAULT, Config, Thresholds
from hisparse_dashboards.recording import every_engine
from hisparse_dashboards.rules import Alert
from hisparse_metrics import catalogue
from hisparse_metrics.metric import Origin
from tests.support.dashboard_json import selectors

ROOT = Path(__file__).parents[3]
ALERTS = alerts.all_alerts(DEFAULT)
RECORDED = {rule.name for rule in every_engine(DEFAULT)}
OF_LOGS = {metric.name for metric in catalogue.ALL if metric.origin is Origin.SOURCE}
"""What the sidecar says about a log itself has no counterpart in another engine, and so no recorded name."""
PAGE = alert_docs.render(DEFAULT)
each_alert = pytest.mark.parametrize(
    "alert", ALERTS, ids=lambda alert: "-".join(filter(None, (alert.name, alert.severity, alert.engine)))
)


@each_alert
def test_alert_is_complete(alert: Alert) -> None:
    assert re.fullmatch(r"HiSparse[A-Z][A-Za-z]+", alert.name)
    assert alert.severity in {"warning", "critical"}
    assert re.fullmatch(r"\d+[sm]", alert.hold)
    assert "$value" in alert.summary, "the summary must have the number"
    assert "$labels.instance" in alert.summary or alert.expr.startswith("absent("), "absence has no labels"
    assert "Likely causes:" in alert.description
    assert "First:" in alert.description


def test_a_published_address_becomes_the_link() -> None:
    rule = ALERTS[0].to_dict("https://runbooks.example/")
    assert rule["annotations"]["runbook_url"] == f"https://runbooks.example/{ALERTS[0].name}.md"


def test_rules_of_one_name_and_severity_tell_their_engines_apart() -> None:
    kinds = [(alert.name, alert.severity, alert.engine) for alert in ALERTS]
    assert len(kinds) == len(set(kinds))


@each_alert
def test_alert_reads_only_the_recorded_vocabulary(alert: Alert) -> None:
    assert {selector.name for selector in selectors(alert.expr)} <= RECORDED | OF_LOGS | {"up"}


@each_alert
def test_page_has_a_row_of_every_alert(alert: Alert) -> None:
    (row,) = rows_of(alert)
    assert len(row) == 5, "a cell must not break the table"
    assert row[1:3] == [alert.severity, "at once" if alert.hold == "0m" else alert.hold]
    assert row[3]
    assert alert.description.startswith(row[3])


def test_page_tells_everything_that_an_alert_hides_and_nothing_else() -> None:
    for alert in ALERTS:
        (row,) = rows_of(alert)
        told = set(re.findall(r"[A-Z][A-Za-z]+", row[4].replace("its own warning", alert.name)))
        assert {f"HiSparse{name.removeprefix('HiSparse')}" for name in told} == hidden_by(alert)
        assert (row[4] == "nothing") is (not hidden_by(alert))


def test_page_has_the_thresholds_of_its_config() -> None:
    page = alert_docs.render(Config(thresholds=Thresholds(host_usage_warning=0.71)))
    assert "| `host_usage_warning` | 0.71 |" in page
    assert all(f"| `{name}` | " in page for name in Thresholds.model_fields)


def hidden_by(alert: Alert) -> set[str]:
    """Return the names of the alerts that some inhibition hides while this rule fires."""
    mine = {f'alertname="{alert.name}"', f'severity="{alert.severity}"', 'engine_name=""'}
    return {
        f"HiSparse{effect}"
        for inhibition in alertmanager.inhibitions()
        if set(inhibition.cause) <= mine
        for effect in inhibition.effects
    }


def rows_of(alert: Alert) -> list[list[str]]:
    """Return the cells of the rows of the page that are about this rule."""
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| [{alert.name}]")]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [row for row in rows if row[1] == alert.severity and alert.description.startswith(row[3])]
