"""Rules as behaviour: a scenario of raw series, and what promtool's unit tests must find at each moment of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hisparse_dashboards import alerts
from hisparse_dashboards.config import DEFAULT
from tests.support.programs import promtool

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
TARGET = {"job": "hisparse", "instance": "host:9477"}
RANK = TARGET | {
    "engine_name": "hisparse", "model_name": "tiny", "dp_rank": "0", "pp_rank": "0", "tp_rank": "0", "ep_rank": "0",
}  # fmt: skip
"""A rank of our own engine."""
WHO = "host:9477 hisparse (dp 0, tp 0)"
LOG = TARGET | {"source": "/var/log/sglang.log"}
LOG_RANK = RANK | LOG | {"engine_name": "sglang"}
"""A rank of an SGLang whose log is followed."""
LOG_WHO = "host:9477 sglang (dp 0, tp 0)"
VLLM_TARGET = {"job": "vllm", "instance": "host:8000"}
VLLM = VLLM_TARGET | {"model_name": "glm-5", "engine": "0"}
"""The labels that vLLM gives its own series."""
VLLM_RANK = VLLM_TARGET | {"model_name": "glm-5", "engine_name": "vllm", "dp_rank": "0"}
VLLM_WHO = "host:8000 vllm (dp 0)"

Labels = Mapping[str, str]
Scenario = dict[str, str]
"""Series → its values, one a minute, in promtool's notation."""


def of(labels: Labels, values: Mapping[str, str]) -> Scenario:
    """Return a scenario whose series all have ``labels``; a name may carry more of its own in braces."""
    return {_series(name, labels): each for name, each in values.items()}


class Firing(NamedTuple):
    """One alert as a person gets it; ``labels`` are those of the series that it is about."""

    severity: str
    summary: str
    labels: Labels = RANK | {"engine": "hisparse"}


class Moment(NamedTuple):
    """What one alert must say at one moment: everything that fires, empty when it must be quiet."""

    at: str
    alert: str
    firing: tuple[Firing, ...] = ()


def run(tmp_path: Path, scenario: Scenario, *moments: Moment) -> None:
    """Play ``scenario`` to the committed rules and hold every moment to what it must say."""
    test = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": "1m",
        "group_eval_order": ["hisparse-recording", "hisparse-alerts"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in scenario.items()],
                "alert_rule_test": [_expected(moment) for moment in moments],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test))
    promtool("test", "rules", path)


def _series(name: str, labels: Labels) -> str:
    name, _, own = name.partition("{")
    given = [f'{key}="{value}"' for key, value in labels.items()]
    return f"{name}{{{','.join([*given, *([own.rstrip('}')] if own else [])])}}}"


def _expected(moment: Moment) -> dict[str, Any]:
    return {
        "eval_time": moment.at,
        "alertname": moment.alert,
        "exp_alerts": [
            {
                "exp_labels": {**firing.labels, "severity": firing.severity},
                "exp_annotations": {
                    "summary": firing.summary,
                    "description": _description(moment.alert, firing),
                    "runbook_url": f"docs/runbooks/{moment.alert}.md",
                },
            }
            for firing in moment.firing
        ],
    }


def _description(name: str, firing: Firing) -> str:
    """Return the description of the alert of this name and severity; of two, the one whose summary reads like this."""
    found = [
        alert
        for alert in alerts.all_alerts(DEFAULT)
        if (alert.name, alert.severity) == (name, firing.severity)
    ]
    words = set(firing.summary.split())
    return max(found, key=lambda alert: len(words & set(alert.summary.split()))).description
