"""The committed files as the programs themselves read them."""

from __future__ import annotations

import subprocess

import yaml

from hisparse_dashboards.alertmanager import inhibitions
from hisparse_dashboards.alerts import all_alerts
from hisparse_dashboards.config import DEFAULT
from tests.support.programs import promtool, require_program
from tests.support.rule_tests import DEPLOY, RULES


def test_rule_files_pass_promtool() -> None:
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES).stdout
    assert said.count("SUCCESS") == len(RULES) == 2


def test_the_deployed_configuration_passes_promtool_and_loads_the_rules() -> None:
    said = promtool("check", "config", DEPLOY / "prometheus/prometheus.yml").stdout
    assert "is valid prometheus config file syntax" in said
    assert "SUCCESS: 2 rule files found" in said


def test_the_deployed_configuration_scrapes_the_demo_under_a_job_that_the_alerts_watch() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert job["job_name"].startswith("hisparse")
    [where] = job["file_sd_configs"][0]["files"]
    targets = yaml.safe_load((DEPLOY / "prometheus" / where).read_text())
    assert targets == [{"targets": ["127.0.0.1:9477"]}]


def test_the_alertmanager_configuration_passes_amtool() -> None:
    command = [str(require_program("amtool")), "check-config", str(DEPLOY / "alertmanager/alertmanager.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_inhibition_speaks_of_alerts_that_exist() -> None:
    known = {alert.name.removeprefix("HiSparse") for alert in all_alerts(DEFAULT)}
    for inhibition in inhibitions():
        assert set(inhibition.effects) <= known
        assert any(f'alertname="HiSparse{name}"' in inhibition.cause for name in known)
