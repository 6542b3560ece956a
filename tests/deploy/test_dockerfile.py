"""The Dockerfile: linted by hadolint, its install steps carried out without a container engine, its parts run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from tests.support import hisparse_cli
from tests.support.dockerfile import Builder, Stage, stages
from tests.support.prometheus import free_port
from tests.support.wheels import HADOLINT, require_file

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/docker"
DOCKERFILE = FOLDER / "Dockerfile"
STAGES = stages(DOCKERFILE.read_text())
IMAGES = ("engine", "sidecar")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    hadolint = require_file(*HADOLINT)
    clean = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (clean.returncode, clean.stdout + clean.stderr) == (0, "")
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text() + "RUN cd /tmp\n")
    found = subprocess.run([hadolint, "--no-color", worse], capture_output=True, text=True, check=False)
    assert "DL3003" in found.stdout


# --- how images run ---


def ancestry(name: str) -> list[Stage]:
    """Return an image's stage and those it stands on, the nearest first."""
    stage = STAGES[name]
    return [stage, *(ancestry(stage.base) if stage.base in STAGES else [])]


def setting(image: str, instruction: str) -> str:
    return next((stage.last(instruction) for stage in ancestry(image) if stage.last(instruction)), "")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_number_with_a_health_check_and_says_what_it_is(image: str) -> None:
    user, group = setting(image, "USER").split(":")
    assert int(user) == int(group) > 1000
    assert setting(image, "HEALTHCHECK").endswith('CMD ["python", "/usr/local/lib/hisparse/healthcheck.py"]')
    labels = " ".join(text for stage in ancestry(image) for kind, text in stage.steps if kind == "LABEL")
    for label in ("title", "description", "version", "revision", "created", "licenses"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert f'image.licenses="{PROJECT["license"]}"' in labels


@pytest.mark.parametrize("image", IMAGES)
def test_the_default_command_is_one_that_hisparse_understands(image: str) -> None:
    assert json.loads(setting(image, "ENTRYPOINT")) == ["hisparse"]
    hisparse_cli.parse(json.loads(setting(image, "CMD")))


def test_the_last_stage_is_the_small_image() -> None:
    assert list(STAGES)[-1] == "sidecar"
    assert "engine" not in " ".join(text for _, text in STAGES["sidecar-build"].steps)


def test_the_base_is_pinned_by_tag_and_can_be_by_content() -> None:
    assert STAGES["python"].base == "python:${PYTHON_TAG}${PYTHON_DIGEST}"
    text = DOCKERFILE.read_text()
    assert re.search(r"^ARG PYTHON_TAG=3\.1\d-slim-\w+$", text, re.MULTILINE)
    assert re.search(r"^ARG PYTHON_DIGEST=$", text, re.MULTILINE)


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert f"ARG VERSION={version}\n" in DOCKERFILE.read_text()
    assert f"\nHISPARSE_VERSION={version}\n" in (ROOT / "deploy/.env").read_text()
    chart = yaml.safe_load((ROOT / "deploy/helm/hisparse/Chart.yaml").read_text())
    assert chart["appVersion"] == version


# --- what goes in ---


def test_the_context_is_what_the_build_copies() -> None:
    copied = {
        name
        for stage in STAGES.values()
        for kind, text in stage.steps
        if kind == "COPY" and "--from" not in text
        for name in text.split()[:-1]
        if not name.startswith("--")
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    assert {re.sub(r"^metrics$", "metrics/hisparse_metrics", name) for name in copied} == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_requirements_are_those_of_pyproject() -> None:
    def printed(*extras: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(FOLDER / "requirements.py"), *extras]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    extras = PROJECT["optional-dependencies"]
    assert printed("web").stdout.split("\n")[:-1] == PROJECT["dependencies"] + extras["web"]
    assert "torch>=" in printed("engine", "web").stdout
    wrong = printed("wbe")
    assert wrong.returncode == 1
    assert "pyproject.toml has no extra wbe; it has " in wrong.stderr


def test_every_requirement_of_an_image_is_locked() -> None:
    locked = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if line and not line.startswith("#")
    }
    extras = PROJECT["optional-dependencies"]
    for requirement in [
        "hatchling",
        *PROJECT["dependencies"],
        *extras["engine"],
        *extras["serve"],
        *extras["web"],
    ]:
        assert re.split(r"[><=\[; ]", requirement)[0].lower() in locked


@pytest.mark.slow
def test_the_install_steps_give_an_exporter_without_torch_that_its_health_check_finds(tmp_path: Path) -> None:
    base = tmp_path / "base"
    venv.create(base, with_pip=True, symlinks=True)
    builder = Builder(DOCKERFILE.read_text(), ROOT, tmp_path / "stages", base / "bin/python")
    installed = builder.build("sidecar-build") / "opt/hisparse"
    packages = {path.name for path in (installed / "lib").glob("python3*/site-packages/*")}
    assert {"hisparse_engine", "hisparse_metrics", "prometheus_client", "yaml", "bcrypt"} <= packages
    assert not {"torch", "numpy", "pip", "hatchling"} & packages
    port = free_port()
    command = [
        installed / "bin/hisparse",
        "exporter",
        "--stats-dir",
        tmp_path,
        "--listen",
        f"127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}/-/healthy"
    assert health(url)[0] == 1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as exporter:
        assert exporter.stdout is not None
        assert "serving" in exporter.stdout.readline()
        try:
            assert health(url) == (0, "")
        finally:
            exporter.terminate()
    assert exporter.returncode == 0


# --- the health check ---


def health(url: str) -> tuple[int, str]:
    """Run the health check; return its exit code and what it says."""
    environment = {**os.environ, "HISPARSE_HEALTH_URL": url}
    command = [sys.executable, str(FOLDER / "healthcheck.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 0), (429, 0), (500, 1), (503, 1)])
def test_a_server_that_wants_a_password_is_alive_and_one_that_fails_is_not(status: int, code: int) -> None:
    with answering(status) as url:
        said = health(url)
    assert said[0] == code
    assert said[1] == ("" if code == 0 else f"{url} answers {status}\n")


def test_a_wrong_address_is_told_without_a_traceback() -> None:
    code, said = health("nonsense")
    assert code == 1
    assert said.startswith("nonsense does not answer")
