"""A server program for the length of a ``with`` block: its folder, its process, its log. Knows no program by name."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

READY_TIMEOUT_S = 30.0
POLL_S = 0.1


class Server:
    """Started on a free loopback port, ready when its ``/-/ready`` says so, stopped cleanly, its data removed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._folder = tempfile.TemporaryDirectory(prefix=f"hisparse-{name}-")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        """Start, and wait until ready."""
        try:
            self._start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and remove the data."""
        self.stop()

    def stop(self) -> None:
        """End the process (SIGTERM, then SIGKILL after 10 s) and remove its data; calling it twice is fine."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._folder.cleanup()

    def log(self) -> str:
        """Return what the program has written to its log so far."""
        path = self._path("log")
        return path.read_text(errors="replace") if path.exists() else ""

    def _command(self, address: str) -> list[str]:
        """Write what the program needs into its folder, and return the command that serves on ``address``."""
        raise NotImplementedError

    def _start(self) -> None:
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        command = self._command(address)
        with self._path("log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder.name, env={**os.environ, "GOMAXPROCS": "1"}
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._name} did not become ready:\n{self.log()}")
            time.sleep(POLL_S)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / name


def free_port() -> int:
    """Return a loopback port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
