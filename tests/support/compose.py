"""compose.yaml as Debian's docker-compose resolves it."""

from __future__ import annotations

import os
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.programs import require_program

COMPOSE = Path(__file__).parents[2] / "deploy/compose.yaml"


@cache
def resolved(**environment: str) -> dict[str, Any]:
    """Return the whole configuration, with variables, anchors and .env applied; fails with docker-compose's words."""
    done = docker_compose("config", **environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    config = yaml.safe_load(done.stdout)
    assert isinstance(config, dict)
    return config


def docker_compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run docker-compose on the file. It contacts no engine for what is asked here."""
    program = require_program("docker-compose")
    command = [str(program), "--file", str(COMPOSE), *arguments]
    # Debian 12's is a Python program: where it is unpacked, its libraries lie beside it.
    libraries = program.parents[1] / "lib/python3/dist-packages"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    return subprocess.run(
        command, env={**clean, "PYTHONPATH": str(libraries), **environment}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def command_of(service: dict[str, Any]) -> list[str]:
    """Return a service's arguments: a text is split as a shell would, without expanding anything."""
    command = service["command"]
    return shlex.split(command) if isinstance(command, str) else list(command)
