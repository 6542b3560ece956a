"""A real Prometheus for one test: started on a free loopback port, asked through its HTTP API, stopped cleanly.

with PrometheusServer(scrape_targets=["127.0.0.1:9477"], rule_files=[rules]) as prometheus:
    prometheus.wait_for("hisparse_host_tokens")
    [sample] = prometheus.query("hisparse_host_tokens")
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import yaml

from tests.support.programs import require_program

READY_TIMEOUT_S = 30.0
POLL_S = 0.1


class Sample(NamedTuple):
    """One series of an instant query's answer."""

    labels: dict[str, str]
    value: float
    timestamp: float


class Series(NamedTuple):
    """One series of a range query's answer: its labels and (timestamp, value) points."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class QueryError(Exception):
    """Prometheus refused a request; the message is Prometheus' own."""


class PrometheusServer:
    """A Prometheus process that scrapes ``scrape_targets``, for the length of a ``with`` block.

    Skips the test (see :func:`tests.support.programs.require_program`) where Prometheus cannot be had. ``config`` adds
    top-level keys to the generated configuration (``alerting``, ``remote_write``, …).
    """

    def __init__(
        self,
        scrape_targets: Sequence[str] = (),
        rule_files: Sequence[Path] = (),
        scrape_interval: str = "1s",
        job: str = "hisparse",
        config: dict[str, Any] | None = None,
    ) -> None:
        self._program = require_program("prometheus")
        self._config = {
            "global": {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval},
            "rule_files": [str(path.resolve()) for path in rule_files],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": list(scrape_targets)}]}],
            **(config or {}),
        }
        self._folder = tempfile.TemporaryDirectory(prefix="hisparse-prometheus-")
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
        """Return what Prometheus has written to its log so far."""
        path = self._path("log")
        return path.read_text(errors="replace") if path.exists() else ""

    # --- asking ---

    def query(self, expr: str, time: float | None = None) -> list[Sample]:
        """Evaluate ``expr`` at one moment (Unix seconds; now when None)."""
        parameters = {"query": expr} if time is None else {"query": expr, "time": repr(time)}
        data = self.api("query", **parameters)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]), float(data["result"][0]))]
        return [Sample(r["metric"], float(r["value"][1]), float(r["value"][0])) for r in data["result"]]

    def query_range(self, expr: str, start: float, end: float, step: str = "1s") -> list[Series]:
        """Evaluate ``expr`` over a window."""
        data = self.api("query_range", query=expr, start=repr(start), end=repr(end), step=step)
        return [Series(r["metric"], [(t, float(v)) for t, v in r["values"]]) for r in data["result"]]

    def wait_for(self, expr: str, timeout: float = 30.0) -> list[Sample]:
        """Return the first non-empty answer to ``expr``; fail with the log when none comes in time."""
        deadline = time.monotonic() + timeout
        while not (samples := self.query(expr)):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no answer to {expr!r} within {timeout} s; Prometheus' log:\n{self.log()}"
                )
            time.sleep(POLL_S)
        return samples

    def api(self, endpoint: str, **parameters: str) -> Any:
        """Return the ``data`` of one call of ``/api/v1/<endpoint>``; raise QueryError with Prometheus' message."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{endpoint}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(f"{parameters}: {error.read().decode(errors='replace')}") from error

    # --- starting ---

    def _start(self) -> None:
        self._path("prometheus.yml").write_text(yaml.safe_dump(self._config))
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        command = [
            str(self._program),
            f"--config.file={self._path('prometheus.yml')}",
            f"--storage.tsdb.path={self._path('data')}",
            f"--web.listen-address={address}",
            "--log.level=warn",
        ]
        with self._path("log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder.name, env={**os.environ, "GOMAXPROCS": "1"}
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prometheus did not become ready:\n{self.log()}")
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
