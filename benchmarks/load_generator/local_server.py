"""A server of our own for runs without a URL: ``hisparse serve`` on the demo's checkpoint, with small pools."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load_generator.settings import LoadError

MODEL = "demo"
FLAGS = (
    "--threads", "1", "--host-tokens", "16000", "--max-running-requests", "8", "--max-waiting-requests", "64",
    "--decode-log-interval", "1000000", "--drain-timeout", "0",
)  # fmt: skip
_START_SECONDS = 180.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class LocalServer:
    """A server that is up. ``flags`` are those beside its model and port."""

    url: str
    flags: tuple[str, ...]
    pid: int


@contextmanager
def local_server(checkpoint: Path, flags: Sequence[str] = ()) -> Iterator[LocalServer]:
    """Start a server; stop it at the end. ``flags`` go after :data:`FLAGS`, so that they win."""
    with tempfile.TemporaryDirectory(prefix="hisparse-load-") as scratch:
        log = Path(scratch) / "log"
        command = [
            sys.executable, "-m", "hisparse_engine", "serve", "--model", str(checkpoint), "--port", "0",
            "--served-model-name", MODEL, "--stats-dir", f"{scratch}/stats", *FLAGS, *flags,
        ]  # fmt: skip
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=file, cwd=Path(__file__).parents[2]
            )
        try:
            yield LocalServer(_wait(process, log), (*FLAGS, *flags), process.pid)
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while " serves " not in (text := log.read_text(errors="replace")):
        if process.poll() is not None:
            raise LoadError(f"hisparse serve ended at once: {text.strip() or process.returncode}")
        if time.monotonic() > deadline:
            raise LoadError(f"hisparse serve was not up after {_START_SECONDS:g} s: {text.strip()}")
        time.sleep(0.05)
    return text.split(" serves ")[1].split(" at ")[1].split()[0]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
