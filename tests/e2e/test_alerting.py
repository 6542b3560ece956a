"""From the engine's host pool to the person who is woken, over real programs: engine, Prometheus, Alertmanager.

The rules are the generated ones with minutes made seconds; nothing else about them is changed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from hisparse_dashboards import alertmanager, alerts, recording, rules
from hisparse_dashboards.config import Config, Thresholds
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from tests.support.alertmanager import AlertmanagerServer, Webhook
from tests.support.prometheus import PrometheusServer

ROOT = Path(__file__).parents[2]
CONFIG = Config(
    rate_window="5s",
    vllm_rate_window="10s",
    prediction_window="30s",
    thresholds=Thresholds(stalled_seconds=2),
)


class Rank:
    """One engine process, spoken to in words."""

    def __init__(self, stats_dir: Path, cache: Path, tp_rank: int) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.support.driven_engine",
            str(stats_dir),
            str(cache),
            str(tp_rank),
        ]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, env=environment, text=True)

    def say(self, word: str) -> None:
        """Tell the engine what to do."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def __enter__(self) -> Rank:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


def seconds_for_minutes(text: str) -> str:
    return re.sub(r"\b(\d+)m\b", r"\1s", text)


def rule_files(folder: Path) -> list[Path]:
    recordings = [rule.to_dict() for rule in recording.every_engine(CONFIG)]
    alerting = [alert.to_dict(CONFIG.runbook_base) for alert in alerts.all_alerts(CONFIG)]
    paths = []
    for name, group in (("hisparse-recording", recordings), ("hisparse-alerts", alerting)):
        paths.append(folder / f"{name}.yml")
        paths[-1].write_text(seconds_for_minutes(rules.render(name, group)))
    return paths


def alertmanager_config(webhook: Webhook) -> dict[str, Any]:
    config = yaml.safe_load(alertmanager.render(CONFIG.model_copy(update={"webhook_url": webhook.url})))
    config["route"] |= {"group_wait": "100ms", "group_interval": "1s"}
    return dict(config)


@contextmanager
def watched(folder: Path, pages: Path) -> Iterator[tuple[PrometheusServer, AlertmanagerServer, Webhook]]:
    """Serve ``pages`` and watch them as in production."""
    with ExitStack() as stack:
        webhook = stack.enter_context(Webhook())
        told_by = stack.enter_context(AlertmanagerServer(alertmanager_config(webhook)))
        exporter = stack.enter_context(Exporter(PageCollector(PageFolder(pages)), port=0))
        managers = [{"static_configs": [{"targets": [told_by.url.removeprefix("http://")]}]}]
        prometheus = PrometheusServer(
            [f"127.0.0.1:{exporter.port}"],
            rule_files(folder),
            "500ms",
            config={"alerting": {"alertmanagers": managers}},
        )
        yield stack.enter_context(prometheus), told_by, webhook


@pytest.mark.slow
def test_who_is_woken_when_the_host_pool_fills_drains_and_the_engine_dies(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pages, cache = tmp_path / "pages", tmp_path_factory.getbasetemp() / "cache"
    pages.mkdir()
    with (
        watched(tmp_path, pages) as (prometheus, told_by, webhook),
        Rank(pages, cache, 0) as first,
        Rank(pages, cache, 1) as second,
    ):
        prometheus.wait_for("count(hisparse:engine_up:bool == 1) == 2", timeout=120)

        first.say("fill")
        high = webhook.wait_for("HiSparseHostUsageHigh", "firing")
        assert (high.labels["severity"], high.labels["tp_rank"]) == ("critical", "0")
        assert re.search(r"test \(dp 0, tp 0\): host pool 9[789]\.?\d*% full", high.annotations["summary"])
        assert high.annotations["runbook_url"].endswith("HiSparseHostUsageHigh.md")
        warning = told_by.wait_for_suppressed("HiSparseHostUsageHigh", severity="warning", tp_rank="0")
        assert warning["status"]["state"] == "suppressed"

        first.say("drain")
        webhook.wait_for("HiSparseHostUsageHigh", "resolved")
        assert {told.labels["severity"] for told in webhook.heard("HiSparseHostUsageHigh", "firing")} == {
            "critical"
        }

        second.say("work")
        prometheus.wait_for('hisparse:running:requests{tp_rank="1"} == 1')
        first.process.kill()
        down = webhook.wait_for("HiSparseEngineDown", "firing")
        assert down.labels["tp_rank"] == "0"
        assert down.annotations["summary"].endswith("test: engine or exporter down (up = 0)")
        second.process.send_signal(signal.SIGSTOP)  # as a rank hangs in a collective when another one dies
        stalled = told_by.wait_for_suppressed("HiSparseEngineStalled", tp_rank="1")
        assert stalled["status"]["state"] == "suppressed"
        assert not webhook.heard("HiSparseEngineStalled", "firing")
        prometheus.wait_for('ALERTS{alertname="HiSparseEngineStalled", alertstate="firing"}')
        assert {told.labels["alertname"] for told in webhook.told} == {
            "HiSparseHostUsageHigh",
            "HiSparseEngineDown",
        }
