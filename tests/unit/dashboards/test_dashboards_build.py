"""``hisparse dashboards build``, for a deployer's folder and for a checkout; and what it says without its extra."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from hisparse_dashboards import generate
from hisparse_engine.cli import main

WRITTEN = {
    "dashboards/hisparse-overview.json",
    "dashboards/hisparse-engine.json",
    "dashboards/hisparse-sidecar.json",
    "prometheus/rules/hisparse-recording.yml",
    "prometheus/rules/hisparse-alerts.yml",
    "alertmanager/alertmanager.yml",
}


def build(*options: object) -> Result:
    result = CliRunner().invoke(main, ["dashboards", "build", *map(str, options)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "monitoring.yaml"
    path.write_text("thresholds: {host_usage_warning: 0.5}\njob_pattern: 'llm-.*'\n")
    return path


def test_a_deployers_folder_gets_what_a_deployment_reads(tmp_path: Path, config: Path) -> None:
    out = tmp_path / "out"
    assert build("--out", out, "--config", config).exit_code == 0
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == WRITTEN
    rules = yaml.safe_load((out / "prometheus/rules/hisparse-alerts.yml").read_text())
    exprs = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert "hisparse:host_token_usage:ratio > 0.5" in exprs
    board = json.loads((out / "dashboards/hisparse-overview.json").read_text())
    [usage] = [panel for panel in board["panels"] if panel["title"] == "Host token usage"]
    assert usage["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] == 0.5
    assert any("llm-.*" in target["expr"] for panel in board["panels"] for target in panel.get("targets", ()))


def test_check_tells_what_differs_and_writes_nothing(tmp_path: Path, config: Path) -> None:
    out = tmp_path / "out"
    build("--out", out)
    assert build("--out", out, "--check").exit_code == 0
    found = build("--out", out, "--check", "--config", config)
    assert found.exit_code == 1
    assert "+    expr: hisparse:host_token_usage:ratio > 0.5" in found.output
    assert build("--out", out, "--check").exit_code == 0


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    mine = tmp_path / "dashboards" / "mine.json"
    mine.parent.mkdir()
    mine.touch()
    assert build("--out", tmp_path).exit_code == 0
    assert mine.exists()


def test_a_checkout_gets_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "dashboards/generated").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert build("--check").exit_code == 1
    assert build().exit_code == 0
    assert {path for path in generate.files() if not (tmp_path / path).exists()} == set()
    assert build("--check").exit_code == 0


def test_elsewhere_it_asks_where_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = build()
    assert refused.exit_code == 2
    assert "say where to write with --out DIR" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "treshold: 1",
            "treshold: Extra inputs are not permitted, got 1; docs/alerts.md lists the thresholds",
        ),
        ("a: [", "is not YAML: while parsing a flow node"),
        (b"\xff\xfe\xfa", "is not UTF-8 text"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused = build("--config", path, "--out", tmp_path / "out")
    assert refused.exit_code == 1
    assert message in refused.stderr
    assert str(path) in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    refused = build("--config", tmp_path / "none.yaml", "--out", tmp_path)
    assert (refused.exit_code, "No such file or directory" in refused.stderr) == (1, True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "dashboards").touch()
    refused = build("--out", tmp_path)
    assert refused.exit_code == 1
    assert "choose another --out" in refused.stderr


@pytest.mark.parametrize("missing", ["grafana_foundation_sdk", "pydantic", "yaml"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None\nfrom hisparse_engine.cli import main; main()"
    command = [sys.executable, "-c", script, "dashboards", "build", "--out", str(tmp_path)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 1
    assert "pip install 'hisparse[dashboards]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_extra() -> None:
    script = "import sys; sys.modules['grafana_foundation_sdk'] = sys.modules['pydantic'] = sys.modules['yaml'] = None\n"
    script += "from hisparse_engine.cli import main; main()"
    command = [sys.executable, "-c", script, "dashboards", "push", "--help"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert "--token-file" in done.stdout
