"""npm packages for tests: installed once, as the lock says, into the cache folder, with the scripts that use them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.support.programs import ProgramUnavailableError, cache_folder, locked, skip_or_raise

INSTALL_TIMEOUT_S = 300


def require_packages(source: Path) -> Path:
    """Return a folder with the packages of ``source``'s package-lock.json, or skip the test with the reason."""
    try:
        return _installed(source)
    except ProgramUnavailableError as error:
        skip_or_raise(f"{source.name}'s npm packages are not available: {error}", error)


@cache
def _installed(source: Path) -> Path:
    manifests = [source / "package.json", source / "package-lock.json"]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in manifests)).hexdigest()[:16]
    if not shutil.which("npm"):
        raise ProgramUnavailableError("npm is not on PATH")
    packages = cache_folder().parent / "npm"
    target = packages / digest
    with locked(packages, digest):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=packages) as scratch:
                folder = Path(scratch) / "packages"
                folder.mkdir()
                for path in manifests:
                    shutil.copy(path, folder)
                _install(folder)
                folder.rename(target)
    return target


def _install(folder: Path) -> None:
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramUnavailableError(f"npm ci took longer than {INSTALL_TIMEOUT_S} s") from error
    if done.returncode:
        raise ProgramUnavailableError(f"npm ci: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
