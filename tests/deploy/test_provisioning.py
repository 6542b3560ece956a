"""One Prometheus and one Grafana configuration, on one machine and in containers: both find what they are told of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from tests.support.compose import COMPOSE, resolved
from tests.support.programs import promtool
from tests.support.prometheus import PrometheusServer

DEPLOY = COMPOSE.parent
ROOT = DEPLOY.parent
PROMETHEUS = DEPLOY / "prometheus"
PROVISIONING = DEPLOY / "grafana/provisioning"
ONE_MACHINE, CONTAINERS = PROMETHEUS / "targets", DEPLOY / "compose/targets"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


# --- Prometheus ---


@pytest.mark.parametrize("targets", [ONE_MACHINE, CONTAINERS], ids=["one-machine", "containers"])
def test_promtool_accepts_the_folder_as_it_is_mounted(tmp_path: Path, targets: Path) -> None:
    mounted = tmp_path / "prometheus"
    shutil.copytree(PROMETHEUS, mounted, ignore=shutil.ignore_patterns("targets"))
    shutil.copytree(targets, mounted / "targets")
    said = promtool("check", "config", mounted / "prometheus.yml")
    rules = len(list((PROMETHEUS / "rules").glob("*.yml")))
    assert f"SUCCESS: {rules} rule files found" in said.stdout
    assert "WARNING" not in said.stdout + said.stderr, "promtool warns of a file of targets that is not there"


def test_both_deployments_say_where_the_same_things_are() -> None:
    assert {path.name for path in ONE_MACHINE.iterdir()} == {path.name for path in CONTAINERS.iterdir()}
    wanted = set(
        re.findall(r"targets/([\w.*]+)", (PROMETHEUS / "prometheus.yml").read_text().split("global:")[1])
    )
    assert wanted == {path.name for path in ONE_MACHINE.iterdir()}


def test_in_containers_targets_are_services_of_compose_on_their_ports() -> None:
    services = resolved()["services"]
    for path in CONTAINERS.iterdir():
        [group] = load(path)
        for target in group["targets"]:
            name, port = target.split(":")
            assert any(f":{port}/tcp" in str(published) for published in services[name]["ports"]), target


def test_a_real_prometheus_scrapes_what_the_file_names(tmp_path: Path) -> None:
    config = load(PROMETHEUS / "prometheus.yml")
    [scrape] = config["scrape_configs"]
    [discovery] = scrape["file_sd_configs"]
    discovery["files"] = [str(tmp_path / Path(name).name) for name in discovery["files"]]
    collector = PageCollector(PageFolder(tmp_path / "stats"))
    with Exporter(collector, "127.0.0.1", 0) as exporter:
        address = exporter.url.removeprefix("http://")
        original = (ONE_MACHINE / "hisparse.yml").read_text()
        (tmp_path / "hisparse.yml").write_text(original.replace("127.0.0.1:9477", address))
        with PrometheusServer(config={"scrape_configs": [{**scrape, "scrape_interval": "1s"}]}) as prometheus:
            [up] = prometheus.wait_for("up == 1")
    assert up.labels["job"] == "hisparse"
    assert up.labels["instance"] == address


# --- Grafana ---


def test_grafana_is_told_every_variable_that_its_files_use() -> None:
    used = {
        name
        for path in PROVISIONING.rglob("*.yml")
        for name in re.findall(r"\$\{(\w+)\}", "".join(re.sub(r"#.*", "", path.read_text())))
    }
    assert used <= set(resolved()["services"]["grafana"]["environment"])
    readme = (DEPLOY / "README.md").read_text()
    assert used <= set(re.findall(r"^export (\w+)=", readme, re.MULTILINE))


def test_the_data_sources_fit_prometheus_and_each_other() -> None:
    sources = {
        source["uid"]: source for source in load(PROVISIONING / "datasources/hisparse.yml")["datasources"]
    }
    prometheus = sources["hisparse-prometheus"]
    assert (
        prometheus["jsonData"]["timeInterval"]
        == load(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    )
    assert prometheus["jsonData"]["alertmanagerUid"] in sources
    assert [source["isDefault"] for source in sources.values() if source.get("isDefault")] == [True]


def test_the_chart_scrapes_as_often() -> None:
    values = load(DEPLOY / "helm/hisparse/values.yaml")
    interval = load(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert values["podMonitor"]["interval"] == values["serviceMonitor"]["interval"] == interval


def test_the_dashboards_are_the_generated_folder_and_the_home_page_is_one_of_them() -> None:
    grafana = resolved()["services"]["grafana"]
    inside = grafana["environment"]["HISPARSE_DASHBOARDS"]
    assert f"{ROOT / 'dashboards/generated'}:{inside}:ro" in grafana["volumes"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == inside
    assert json.loads((ROOT / "dashboards/generated" / home.name).read_text())["title"]
    [provider] = load(PROVISIONING / "dashboards/hisparse.yml")["providers"]
    assert provider["options"]["path"] == "${HISPARSE_DASHBOARDS}"
