"""A real Prometheus for one test: started on a free loopback port, asked through its HTTP API, stopped cleanly.

with PrometheusServer(scrape_targets=["127.0.0.1:9477"], rule_files=[rules]) as prometheus:
    prometheus.wait_for("hisparse_host_tokens")
    [sample] = prometheus.query("hisparse_host_tokens")
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.programs import require_program
from tests.support.server import POLL_S, Server, free_port

__all__ = ["PrometheusServer", "QueryError", "Sample", "Series", "free_port"]


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


class PrometheusServer(Server):
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
        super().__init__("prometheus")
        self._program = require_program("prometheus")
        self._config = {
            "global": {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval},
            "rule_files": [str(path.resolve()) for path in rule_files],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": list(scrape_targets)}]}],
            **(config or {}),
        }

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

    def _command(self, address: str) -> list[str]:
        self._path("prometheus.yml").write_text(yaml.safe_dump(self._config))
        return [
            str(self._program),
            f"--config.file={self._path('prometheus.yml')}",
            f"--storage.tsdb.path={self._path('data')}",
            f"--web.listen-address={address}",
            "--log.level=warn",
        ]
