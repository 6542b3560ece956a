"""The systemd units, by systemd's own tools, and the permissions that they count on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support import hisparse_cli
from tests.support.programs import require_program
from tests.support.prometheus import free_port
from tests.unit.metrics.support import IDENTITY

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/systemd"
SERVICES = ["hisparse-exporter.service", "hisparse-sidecar@.service"]
UNITS = [*SERVICES, "hisparse-exporter.socket"]
HISPARSE = Path(sys.executable).with_name("hisparse")
INSTALLED = "/opt/hisparse/bin/hisparse"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes the identity of other users: needs root")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with the program where it is on this machine."""
    for name in UNITS:
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace(INSTALLED, str(HISPARSE)))
    return tmp_path


def systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(require_program("systemd-analyze")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    clean = systemd_analyze("verify", "--man=no", *(units / name for name in UNITS))
    assert (clean.returncode, clean.stderr) == (0, "")
    wrong = units / SERVICES[0]
    wrong.write_text(wrong.read_text().replace("[Service]\n", "[Service]\nProtectEverything=yes\n"))
    assert "ProtectEverything" in systemd_analyze("verify", "--man=no", wrong).stderr


@pytest.mark.parametrize(("unit", "most"), [(SERVICES[0], 0.6), (SERVICES[1], 1.3)])
def test_exposure_is_low(unit: str, most: float) -> None:
    done = systemd_analyze(
        "security", "--offline=true", f"--threshold={most * 10:.0f}", "--no-pager", FOLDER / unit
    )
    level = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert level, done.stderr
    assert done.returncode == 0
    assert 0 < float(level[1]) <= most


def commands(unit: str) -> list[str]:
    return re.findall(r"^ExecStart=(.+)$", (FOLDER / unit).read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", SERVICES)
def test_every_command_is_one_that_hisparse_understands(unit: str) -> None:
    [command] = commands(unit)
    program, *arguments = shlex.split(command)
    assert program == INSTALLED
    assert arguments.pop().endswith("_OPTIONS"), "the last word is split into words, or none, by systemd"
    replaced = {"%i": "sglang", "%S": "/var/lib", "${HISPARSE_LISTEN}": "127.0.0.1:9478"}
    for name, value in replaced.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    assert not re.search(r"[%$]", " ".join(arguments))
    hisparse_cli.parse(arguments)


def test_the_sidecars_state_is_in_its_state_directory() -> None:
    text = (FOLDER / SERVICES[1]).read_text()
    folder = re.search(r"^StateDirectory=(.+)$", text, re.MULTILINE)
    assert folder
    assert f"--state-file %S/{folder[1]}/" in commands(SERVICES[1])[0]


def test_the_exporter_serves_on_the_socket_that_systemd_hands_over(tmp_path: Path) -> None:
    activate = require_program("systemd-socket-activate")
    port = free_port()
    [command] = commands(SERVICES[0])
    _, *arguments = shlex.split(command)[:-1]
    arguments[arguments.index("--stats-dir") + 1] = str(tmp_path)
    run = [activate, f"--listen=127.0.0.1:{port}", HISPARSE, *arguments]
    with subprocess.Popen(run, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "Listening on" in process.stderr.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=30) as answer:
                assert answer.status == 200
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


# --- who may read the pages ---

AS_USER = """
import os, sys
from pathlib import Path
from hisparse_metrics.page_reader import read_page
from hisparse_metrics.recorder import Recorder
from tests.unit.metrics.support import IDENTITY
action, path, user, *groups = sys.argv[1:]
os.setgroups([int(group) for group in groups])
os.setgid(int(user))
os.setuid(int(user))
if action == "write":
    Recorder(Path(path), IDENTITY)
else:
    print(read_page(Path(path)).header.identity.engine_name)
"""
"""Imports first, as root, because another user may not look into the folder of this Python."""
ENGINE, READER, STRANGER = 61001, 61002, 61003


@as_root
def test_install_makes_the_group_and_a_folder_that_lets_it_read(tmp_path: Path) -> None:
    """The real sysusers and tmpfiles in a root of their own; then an engine, and two users who look at its page."""
    require_program("systemd-sysusers")
    install = subprocess.run(
        [FOLDER / "install.sh", tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert install.returncode == 0, install.stderr
    for name in UNITS:
        assert (tmp_path / "usr/lib/systemd/system" / name).read_bytes() == (FOLDER / name).read_bytes()
    group = next(
        int(line.split(":")[2])
        for line in (tmp_path / "etc/group").read_text().splitlines()
        if line.startswith("hisparse:")
    )
    tmpfiles = require_program("systemd-tmpfiles")
    subprocess.run([tmpfiles, f"--root={tmp_path}", "--create", "hisparse.conf"], check=True, timeout=60)
    stats = tmp_path / "dev/shm/hisparse"
    found = stats.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o2750, group)
    assert "--stats-dir /dev/shm/hisparse" in commands(SERVICES[0])[0]
    assert "SupplementaryGroups=hisparse\n" in (FOLDER / SERVICES[0]).read_text()
    check_who_reads(stats, group)


def check_who_reads(stats: Path, group: int) -> None:
    os.chown(stats, ENGINE, group)
    for folder in [stats, *stats.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o011 if folder != stats else 0o2750)
    assert act("write", stats, ENGINE).returncode == 0
    [page] = stats.glob("*.page")
    assert page.stat().st_gid == group
    assert act("read", page, READER, group).stdout == f"{IDENTITY.engine_name}\n"
    assert "Permission denied" in act("read", page, STRANGER).stderr


def act(action: str, path: Path, user: int, *groups: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AS_USER, action, path, str(user), *map(str, groups)]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
