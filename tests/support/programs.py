"""Real programs for tests: find them, or take them from Debian, and run them for the length of a test.

A program that is on ``PATH`` is used as it is. Otherwise its Debian package is downloaded by ``apt-get`` and unpacked
into a cache folder: nothing is installed, no service starts, and no root is needed where apt's lists are present.
Where that cannot work the test is skipped, and the skip says why.

    python -m tests.support.programs promtool      prints the path of promtool, fetching it when it must
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "docker-compose": "docker-compose",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
    "systemd-journal-remote": "systemd-journal-remote",
}
"""Program → the Debian package that carries it. Only programs that run from an unpacked package belong here."""

PLACES = {"systemd-journal-remote": "lib/systemd/systemd-journal-remote"}
"""Where in its package a program is that is not in ``usr/bin``."""

WITH_DEPENDENCIES = {"docker-compose", "systemd-journal-remote"}
"""Packages whose dependencies are unpacked beside them, as far as they are not installed here."""

FETCH_TIMEOUT_S = 300


class ProgramUnavailableError(Exception):
    """A program is neither installed nor obtainable here; the message says what was tried."""


@cache
def find_program(name: str) -> Path:
    """Return the path of ``name`` from ``PATH``, from the cache, or freshly unpacked; raise when it cannot be had."""
    installed = shutil.which(name)
    if installed:
        return Path(installed)
    if name not in PACKAGES:
        raise ProgramUnavailableError(f"{name} is not on PATH and no Debian package is known for it")
    return _unpacked(name, PACKAGES[name])


def require_program(name: str) -> Path:
    """Return the path of ``name``, or skip the test with the reason.

    ``HISPARSE_REQUIRE_PROGRAMS=1`` turns the skip into a failure, so that a CI which must run these tests cannot
    lose them silently.
    """
    try:
        return find_program(name)
    except ProgramUnavailableError as error:
        skip_or_raise(f"{name} is not available: {error}", error)


def skip_or_raise(reason: str, error: ProgramUnavailableError) -> NoReturn:
    """Skip the test, or fail it where programs are required."""
    if os.environ.get("HISPARSE_REQUIRE_PROGRAMS") == "1":
        raise error
    pytest.skip(reason)


def promtool(
    *args: str | Path, check: bool = True, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run promtool; with ``check`` a non-zero exit fails the test and shows promtool's own words."""
    command = [str(require_program("promtool")), *map(str, args)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    if check and done.returncode != 0:
        pytest.fail(f"promtool {' '.join(command[1:])} exited {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def cache_folder() -> Path:
    """Return the folder where unpacked packages stay between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hisparse" / "debian"


def _unpacked(name: str, package: str) -> Path:
    """Return ``name`` out of the unpacked ``package``, fetching it once for all processes of this machine."""
    target = cache_folder() / package
    place = PLACES.get(name, f"usr/bin/{name}")
    program = target / place
    with locked(cache_folder(), package):
        if not program.exists():
            _fetch(package, target)
    if not program.exists():
        raise ProgramUnavailableError(f"Debian's package {package} has no {place}")
    return program


@contextmanager
def locked(folder: Path, package: str) -> Iterator[None]:
    """Hold the lock of one package's cache entry."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{package}.lock").open("w")
    except OSError as error:
        raise ProgramUnavailableError(f"cannot write the cache folder {folder}: {error}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(package: str, target: Path) -> None:
    """Download ``package`` and unpack it at ``target``, whole or not at all."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ProgramUnavailableError("this machine has no apt-get and dpkg-deb to fetch it with")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        root = Path(scratch) / "root"
        for archive in _download(package, Path(scratch)):
            _run(["dpkg-deb", "--extract", str(archive), str(root)], Path(scratch))
        shutil.rmtree(target, ignore_errors=True)
        root.rename(target)


def _download(package: str, folder: Path) -> list[Path]:
    """Download what is to be unpacked; refresh apt's lists once when the first try fails and we are root."""
    try:
        _download_all(package, folder)
    except ProgramUnavailableError:
        if os.geteuid() != 0:
            raise
        _run(["apt-get", "update"], folder)
        _download_all(package, folder)
    return sorted(folder.glob("*.deb"))


def _download_all(package: str, folder: Path) -> None:
    names = _missing_dependencies(package, folder) if package in WITH_DEPENDENCIES else [package]
    # The unpacking user of apt's sandbox cannot write to our folder; downloading as ourselves is what we want.
    _run(["apt-get", "download", "-o", "APT::Sandbox::User=root", *names], folder)


def _missing_dependencies(package: str, folder: Path) -> list[str]:
    """Return ``package`` and what apt would install with it; installs nothing."""
    plan = _run(["apt-get", "install", "--simulate", "--no-install-recommends", package], folder)
    return [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")] or [package]


def _run(command: list[str], folder: Path) -> str:
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=True
        ).stdout
    except subprocess.CalledProcessError as error:
        last_words = (error.stderr or "").strip().splitlines()[-1:] or ["no message"]
        raise ProgramUnavailableError(f"`{' '.join(command)}` failed: {last_words[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise ProgramUnavailableError(
            f"`{' '.join(command)}` took longer than {FETCH_TIMEOUT_S} s"
        ) from error


def main(arguments: list[str]) -> int:
    """Print the path of each named program; exit 1 with the reason when one cannot be had."""
    try:
        for name in arguments:
            print(find_program(name))
    except ProgramUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
