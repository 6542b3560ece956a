"""The rules as behaviour, by promtool: each alert not yet, firing with its exact words, resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from hisparse_dashboards import alerts
from hisparse_dashboards.config import DEFAULT
from tests.support.programs import promtool

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = sorted((DEPLOY / "rules").glob("*.yml"))
RANK = {
    "job": "hisparse",
    "instance": "host:9477",
    "engine_name": "hisparse",
    "model_name": "tiny",
    "dp_rank": "0",
    "pp_rank": "0",
    "tp_rank": "0",
    "ep_rank": "0",
}
WHO = "host:9477 hisparse (dp 0, tp 0)"
Scenario = dict[str, str]
"""Metric name → its values, one a minute, in promtool's notation."""


class Moment(NamedTuple):
    """What one alert must say at one moment: a list of (severity, summary), empty when it must be quiet."""

    at: str
    alert: str
    firing: list[tuple[str, str]]


def series(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def described(name: str, severity: str) -> str:
    found = [
        alert for alert in alerts.all_alerts(DEFAULT) if (alert.name, alert.severity) == (name, severity)
    ]
    return found[0].description


def expected(moment: Moment, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "eval_time": moment.at,
        "alertname": moment.alert,
        "exp_alerts": [
            {
                "exp_labels": {**labels, "severity": severity},
                "exp_annotations": {
                    "summary": summary,
                    "description": described(moment.alert, severity),
                    "runbook_url": f"docs/runbooks/{moment.alert}.md",
                },
            }
            for severity, summary in moment.firing
        ],
    }


def run(tmp_path: Path, scenario: Scenario, *moments: Moment, labels: dict[str, str] | None = None) -> None:
    """Play ``scenario`` to the committed rules and hold every moment to what it must say."""
    told = {**RANK, "engine": "hisparse"} if labels is None else labels
    test = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": "1m",
        "group_eval_order": ["hisparse-recording", "hisparse-alerts"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series(name, told if name == "up" else RANK), "values": values}
                    for name, values in scenario.items()
                ],
                "alert_rule_test": [expected(moment, told) for moment in moments],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test))
    promtool("test", "rules", path)


def usage(values: str, capacity: str = "1000x60") -> Scenario:
    return {"hisparse_host_token_usage": values, "hisparse_host_token_capacity": capacity}


# --- host usage ---


def test_host_usage_warns_after_five_minutes_and_resolves(tmp_path: Path) -> None:
    high = ("warning", f"{WHO}: host pool 90% full")
    run(
        tmp_path,
        usage("0.5x4 0.9x9 0.5x9"),
        Moment("5m", "HiSparseHostUsageHigh", []),
        Moment("9m", "HiSparseHostUsageHigh", []),
        Moment("10m", "HiSparseHostUsageHigh", [high]),
        Moment("14m", "HiSparseHostUsageHigh", [high]),
        Moment("15m", "HiSparseHostUsageHigh", []),
    )


def test_host_usage_is_critical_after_two_minutes_and_falls_back_to_warning(tmp_path: Path) -> None:
    run(
        tmp_path,
        usage("0.96x9 0.9x9 0.1x9"),
        Moment("1m", "HiSparseHostUsageHigh", []),
        Moment("2m", "HiSparseHostUsageHigh", [("critical", f"{WHO}: host pool 96% full")]),
        Moment(
            "9m",
            "HiSparseHostUsageHigh",
            [("critical", f"{WHO}: host pool 96% full"), ("warning", f"{WHO}: host pool 96% full")],
        ),
        Moment("10m", "HiSparseHostUsageHigh", [("warning", f"{WHO}: host pool 90% full")]),
        Moment("20m", "HiSparseHostUsageHigh", []),
    )


def test_host_usage_at_the_threshold_is_quiet(tmp_path: Path) -> None:
    run(tmp_path, usage("0.85x30"), Moment("30m", "HiSparseHostUsageHigh", []))


def test_a_pool_that_does_not_exist_is_never_full(tmp_path: Path) -> None:
    run(tmp_path, usage("0.99x30", capacity="0x30"), Moment("30m", "HiSparseHostUsageHigh", []))


# --- host pool exhausted ---


def pool(used: str, reserved: str, waiting: str) -> Scenario:
    return {
        "hisparse_host_tokens": used,
        "hisparse_host_tokens_reserved": reserved,
        "hisparse_host_token_capacity": "1000x60",
        "hisparse_waiting_requests": waiting,
    }


def test_exhausted_fires_when_used_and_promised_fill_the_pool_and_requests_wait(tmp_path: Path) -> None:
    summary = f"{WHO}: 100% of the host pool is used or promised, and requests are waiting"
    run(
        tmp_path,
        pool("600x60", "100x4 400x9 100x9", "3x60"),
        Moment("6m", "HiSparseHostPoolExhausted", []),
        Moment("7m", "HiSparseHostPoolExhausted", [("critical", summary)]),
        Moment("14m", "HiSparseHostPoolExhausted", [("critical", summary)]),
        Moment("15m", "HiSparseHostPoolExhausted", []),
    )


def test_exhausted_fires_on_use_alone(tmp_path: Path) -> None:
    summary = f"{WHO}: 99% of the host pool is used or promised, and requests are waiting"
    run(
        tmp_path,
        pool("990x60", "0x60", "1x60"),
        Moment("2m", "HiSparseHostPoolExhausted", [("critical", summary)]),
    )


def test_a_full_pool_that_nobody_waits_for_is_quiet(tmp_path: Path) -> None:
    run(tmp_path, pool("600x60", "400x60", "0x60"), Moment("30m", "HiSparseHostPoolExhausted", []))


def test_a_queue_beside_a_pool_with_room_is_quiet(tmp_path: Path) -> None:
    run(tmp_path, pool("600x60", "300x60", "5x60"), Moment("30m", "HiSparseHostPoolExhausted", []))


def test_a_rank_with_room_is_not_blamed_for_the_queue_of_another(tmp_path: Path) -> None:
    other = series("hisparse_waiting_requests", {**RANK, "dp_rank": "1"})
    scenario = pool("600x60", "400x60", "0x60")
    test = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": other, "values": "9x60"},
                    *({"series": series(name, RANK), "values": values} for name, values in scenario.items()),
                ],
                "alert_rule_test": [
                    {"eval_time": "30m", "alertname": "HiSparseHostPoolExhausted", "exp_alerts": []}
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test))
    promtool("test", "rules", path)


# --- engine down ---


def test_down_fires_when_the_engine_dies_and_its_exporter_lives(tmp_path: Path) -> None:
    summary = "host:9477 hisparse: engine or exporter down (up = 0)"
    run(
        tmp_path,
        {"hisparse_engine_up": "1x4 0x9 1x9"},
        Moment("5m", "HiSparseEngineDown", []),
        Moment("6m", "HiSparseEngineDown", [("critical", summary)]),
        Moment("14m", "HiSparseEngineDown", [("critical", summary)]),
        Moment("15m", "HiSparseEngineDown", []),
    )


@pytest.mark.parametrize("job", ["hisparse", "hisparse-engines"])
def test_down_fires_when_the_exporter_cannot_be_reached(tmp_path: Path, job: str) -> None:
    target = {"job": job, "instance": "host:9477"}
    run(
        tmp_path,
        {"up": "1x4 0x9 1x9"},
        Moment("5m", "HiSparseEngineDown", []),
        Moment("6m", "HiSparseEngineDown", [("critical", "host:9477: engine or exporter down (up = 0)")]),
        Moment("15m", "HiSparseEngineDown", []),
        labels=target,
    )


def test_another_job_that_is_down_is_not_ours(tmp_path: Path) -> None:
    target = {"job": "node", "instance": "host:9100"}
    run(tmp_path, {"up": "0x60"}, Moment("30m", "HiSparseEngineDown", []), labels=target)


# --- engine stalled ---


def steps(last_step: str, running: str = "2x60", up: str = "1x60") -> Scenario:
    """promtool's clock starts at 0, so a last step at second 300 is five minutes into the scenario."""
    return {
        "hisparse_engine_last_step_timestamp_seconds": last_step,
        "hisparse_running_requests": running,
        "hisparse_engine_up": up,
    }


def test_stalled_fires_when_running_requests_get_no_step(tmp_path: Path) -> None:
    run(
        tmp_path,
        steps("0+60x5 300x9 900+60x20"),
        Moment("5m", "HiSparseEngineStalled", []),
        Moment("7m", "HiSparseEngineStalled", []),
        Moment("8m", "HiSparseEngineStalled", [("critical", stalled("3m 0s"))]),
        Moment("15m", "HiSparseEngineStalled", [("critical", stalled("10m 0s"))]),
        Moment("16m", "HiSparseEngineStalled", []),
    )


def stalled(duration: str) -> str:
    return f"{WHO}: no decode step for {duration} while requests are running"


def test_an_idle_engine_is_not_stalled(tmp_path: Path) -> None:
    run(tmp_path, steps("0x60", running="0x60"), Moment("50m", "HiSparseEngineStalled", []))


def test_a_dead_engine_is_down_and_not_stalled(tmp_path: Path) -> None:
    run(tmp_path, steps("0x60", up="0x60"), Moment("50m", "HiSparseEngineStalled", []))


# --- files ---


def test_rule_files_pass_promtool() -> None:
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES).stdout
    assert said.count("SUCCESS") == len(RULES) == 2


def test_the_deployed_configuration_passes_promtool_and_loads_the_rules() -> None:
    said = promtool("check", "config", DEPLOY / "prometheus.yml").stdout
    assert "is valid prometheus config file syntax" in said
    assert "SUCCESS: 2 rule files found" in said


def test_the_deployed_configuration_scrapes_the_demo_under_a_job_that_the_alerts_watch() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9477"]}]
    assert job["job_name"].startswith("hisparse")
