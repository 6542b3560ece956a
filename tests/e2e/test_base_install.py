"""Every subcommand of ``hisparse sidecar`` with the standard library, click and prometheus-client alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.sidecar.process import ROOT, environment
from tests.unit.sidecar.support import NO_HOST, decode, prefill

BASE = {"click", "prometheus_client"}
WITH_NOTHING_ELSE = f"""
import sys

class OnlyBase:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {BASE | {"hisparse_engine", "hisparse_metrics"}!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=top)

sys.meta_path.insert(0, OnlyBase())
from hisparse_engine.cli import main
main(prog_name="hisparse")
"""


def run(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITH_NOTHING_ELSE, "sidecar", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "a.log"
    log.write_text("".join(f"{line}\n" for line in (decode(1, "0.92"), NO_HOST, prefill(7))))
    return log


def test_the_base_install_is_two_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}  # type: ignore[index]
    assert {name.replace("-", "_") for name in names} == BASE


def test_parse_report_and_replay(log: Path) -> None:
    parsed, report = run("parse", log), run("report", log)
    assert [json.loads(line)["line"] for line in parsed.stdout.splitlines()] == [1, 3]
    assert "host usage: peak 0.92" in report.stdout
    replay = run("replay", log, "--speed", "1000", "--once", "--web.listen-address", "127.0.0.1:0")
    assert "from a replay of" in replay.stderr
    assert [parsed.returncode, report.returncode, replay.returncode] == [0, 0, 0]


def test_check_and_run_with_a_configuration_in_json(log: Path, tmp_path: Path) -> None:
    config = tmp_path / "sidecar.json"
    config.write_text(json.dumps({"sources": {"sglang_log": [str(log), "-"]}}))
    checked = run("check", config)
    assert (checked.returncode, "last record: phase=prefill" in checked.stdout) == (0, True)
    config.write_text(json.dumps({"sources": {"sglang_log": "-"}, "stale_after": 0.1}))
    served = run("--config", config, "--tee", "--web.listen-address", "127.0.0.1:0", given=decode(1) + "\n")
    assert (served.returncode, served.stdout) == (0, decode(1) + "\n")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("report", "{log}", "--png", "{folder}/x.png"), "report"),
        (("check", "{folder}/sidecar.yaml"), "web"),
        (("--sglang-log", "{log}", "--web.config.file", "{folder}/sidecar.yaml"), "web"),
    ],
)
def test_what_is_not_there_is_named_with_its_extra(
    log: Path, tmp_path: Path, arguments: tuple[str, ...], extra: str
) -> None:
    (tmp_path / "sidecar.yaml").write_text("sources: {sglang_log: [/x]}\n")
    done = run(*(argument.format(log=log, folder=tmp_path) for argument in arguments))
    assert done.returncode == 1
    assert f"pip install 'hisparse[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
