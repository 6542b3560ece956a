"""compose.yaml, resolved by Debian's docker-compose, held to Compose's own schema, and its commands run for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support import hisparse_cli
from tests.support.compose import COMPOSE, command_of, resolved
from tests.support.prometheus import free_port
from tests.support.wheels import COMPOSE_SCHEMA, require_file

DEPLOY = COMPOSE.parent
OURS = ("engine", "sidecar")
HISPARSE = Path(sys.executable).with_name("hisparse")


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return resolved()


def test_the_schema_of_newer_composes_accepts_the_file_too() -> None:
    schema = json.loads(require_file(*COMPOSE_SCHEMA).read_text())
    document = yaml.safe_load(COMPOSE.read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(document)
    document["services"]["engine"]["readonly"] = True
    with pytest.raises(jsonschema.ValidationError, match="readonly"):
        jsonschema.validators.validator_for(schema)(schema).validate(document)


def test_compose_up_brings_the_engine_unless_it_is_told_otherwise(config: dict[str, Any]) -> None:
    """Debian 12's docker-compose lists every service whatever the profiles say, so this reads both files."""
    profiles = {name: service.get("profiles", []) for name, service in config["services"].items()}
    assert profiles.pop("engine") == ["engine"]
    assert set(profiles) == {"sidecar", "prometheus", "alertmanager", "grafana"}
    assert not any(profiles.values())
    assert "\nCOMPOSE_PROFILES=engine\n" in (DEPLOY / ".env").read_text()


def test_every_container_is_hardened_limited_and_watched(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["logging"]["options"]["max-size"], name
        assert not {"privileged", "user", "network_mode", "pid", "ipc", "cap_add"} & set(service), name
        assert name in OURS or service["healthcheck"]["test"][0] == "CMD", "ours have it from the image"


def test_ports_are_published_on_loopback_alone(config: dict[str, Any]) -> None:
    published = [port for service in config["services"].values() for port in service.get("ports", [])]
    assert len(published) == 5
    assert all(re.match(r"127\.0\.0\.1:\d+:\d+", str(port)) for port in published)


def test_versions_are_pinned_in_env_and_nowhere_else(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"]), name
    written = yaml.safe_load(COMPOSE.read_text())["services"].values()
    assert all(re.search(r"\$\{\w+\}$", service["image"]) for service in written)


def test_what_is_mounted_is_there_and_read_only(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        for mount in service["volumes"]:
            source, target, mode = mount.split(":")
            if source.startswith("/"):
                assert Path(source).is_dir(), f"{name}: {source}"
                assert mode == "ro", f"{name}: {target}"
            else:
                assert source in config["volumes"], f"{name}: {source}"


def test_the_password_is_a_file_that_git_does_not_take(config: dict[str, Any]) -> None:
    path = config["secrets"]["grafana-password"]["file"]
    ignored = subprocess.run(["git", "check-ignore", path], cwd=DEPLOY, capture_output=True, check=False)
    assert ignored.returncode == 0
    grafana = config["services"]["grafana"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana-password"
    assert not [name for name in grafana["environment"] if name.endswith("PASSWORD")]


def test_engine_and_sidecar_share_the_pages_in_memory(config: dict[str, Any]) -> None:
    stats = config["volumes"]["stats"]["driver_opts"]
    assert stats["type"] == "tmpfs"
    assert "uid=10001,gid=10001,mode=0750" in stats["o"]
    assert "stats:/run/hisparse:rw" in config["services"]["engine"]["volumes"]
    assert "stats:/run/hisparse:ro" in config["services"]["sidecar"]["volumes"]
    sidecar = hisparse_cli.parse(command_of(config["services"]["sidecar"]))
    assert sidecar["stats_dir"] == Path("/run/hisparse")


def test_hisparse_understands_every_command(config: dict[str, Any]) -> None:
    for name in OURS:
        hisparse_cli.parse(command_of(config["services"][name]))
    served = resolved(MODEL_DIR="/tmp", **commented_out("ENGINE_COMMAND"))["services"]["engine"]
    assert "/tmp:/models:ro" in served["volumes"]
    assert hisparse_cli.parse(command_of(served))["port"] == 8000
    example = {"SGLANG_LOG_DIR": "/tmp", **commented_out("SIDECAR_OPTIONS")}
    sidecar = resolved(**example)["services"]["sidecar"]
    assert "/tmp:/logs:ro" in sidecar["volumes"]
    parsed = hisparse_cli.parse(command_of(sidecar))
    assert parsed["sglang_log"] == ("/logs/*.log",)
    assert parsed["model"] == "glm-5"


def commented_out(name: str) -> dict[str, str]:
    """Return a setting that .env shows as an example."""
    found = re.search(rf"^#{name}=(.+)$", (DEPLOY / ".env").read_text(), re.MULTILINE)
    assert found
    return {name: found[1]}


def test_every_variable_is_in_env_and_every_one_there_is_used() -> None:
    text = COMPOSE.read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    env = (DEPLOY / ".env").read_text()
    explained = set(re.findall(r"^#?(\w+)=", env, re.MULTILINE))
    assert used == {name for name in explained if not name.startswith("COMPOSE_")}
    without_default = set(re.findall(r"\$\{(\w+)\}", text))
    assert without_default <= set(re.findall(r"^(\w+)=", env, re.MULTILINE))


def test_the_commands_run_and_the_sidecar_shows_the_engine(config: dict[str, Any], tmp_path: Path) -> None:
    """As in the containers, but for folders and ports: the demo in one process, the sidecar in another."""
    stats, state = tmp_path / "stats", tmp_path / "state"
    state.mkdir()
    places = {"/run/hisparse": str(stats), "/var/lib/hisparse": str(state)}
    port = free_port()

    def command(name: str, listen: str) -> list[str]:
        words = command_of(config["services"][name])
        words[words.index("--listen") + 1] = listen
        for inside, outside in places.items():
            words = [word.replace(inside, outside) for word in words]
        return [str(HISPARSE), *words]

    environment = {**os.environ, "HISPARSE_STATS_DIR": str(stats)}
    processes = []
    for name, listen in (("engine", "127.0.0.1:0"), ("sidecar", f"127.0.0.1:{port}")):
        with (tmp_path / f"{name}.log").open("w") as log:
            processes.append(subprocess.Popen(command(name, listen), env=environment, stdout=log, stderr=log))
    try:
        wait_for(
            f"http://127.0.0.1:{port}/metrics", '^hisparse_engine_up{.*engine_name="demo".*} 1.0$', processes
        )
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(timeout=60) for process in processes]
    assert codes == [0, 0]


def wait_for(url: str, pattern: str, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert all(process.poll() is None for process in processes), [p.args for p in processes if p.poll()]
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if re.search(pattern, answer.read().decode(), re.MULTILINE):
                    return
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{url} never said {pattern}")
