"""A real Alertmanager for one test, and the webhook that it calls.

with Webhook() as webhook, AlertmanagerServer(config) as alertmanager:
    webhook.wait_for("HiSparseEngineDown", "firing")
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from tests.support.programs import require_program
from tests.support.server import POLL_S, Server

DATA = Path("/usr/share/prometheus/alertmanager")


class AlertmanagerServer(Server):
    """An Alertmanager with ``config`` as its configuration file; skips the test where it cannot be had."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__("alertmanager")
        self._program = require_program("prometheus-alertmanager")
        self._config = config

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """Return the active alerts of one name as Alertmanager sees them, with their ``status``."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as answer:
            return [alert for alert in json.load(answer) if alert["labels"]["alertname"] == name]

    def wait_for_suppressed(self, name: str, timeout: float = 60.0, **labels: str) -> dict[str, Any]:
        """Return the first alert of this name and these labels that another one inhibits."""
        deadline = time.monotonic() + timeout
        while True:
            for alert in self.alerts(name):
                if alert["status"]["inhibitedBy"] and labels.items() <= alert["labels"].items():
                    return alert
            if time.monotonic() > deadline:
                raise TimeoutError(f"no suppressed {name} {labels}; alerts: {self.alerts(name)}")
            time.sleep(POLL_S)

    def _command(self, address: str) -> list[str]:
        self._path("alertmanager.yml").write_text(yaml.safe_dump(self._config))
        return [
            str(self._runnable()),
            f"--config.file={self._path('alertmanager.yml')}",
            f"--storage.path={self._path('data')}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ]

    def _runnable(self) -> Path:
        """Return the program; where its package is only unpacked, a copy that finds its templates in our folder.

        Debian's build opens one absolute folder. A path of the same length with many slashes leads to the working
        folder instead, and the rest of the program stays as it is.
        """
        if DATA.exists():
            return self._program
        templates = self._program.parents[2] / DATA.relative_to("/")
        shutil.copytree(templates, self._path("."), dirs_exist_ok=True)
        here = b".".ljust(len(str(DATA)), b"/")
        copy = self._path("prometheus-alertmanager")
        copy.write_bytes(self._program.read_bytes().replace(str(DATA).encode(), here))
        copy.chmod(0o700)
        return copy


class Told(NamedTuple):
    """One alert of one notification."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Webhook:
    """Receives Alertmanager's notifications on a free loopback port."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.extend(Told(a["status"], a["labels"], a["annotations"]) for a in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where notifications are to be sent."""
        return f"http://127.0.0.1:{self._server.server_port}/alerts"

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def heard(self, name: str, status: str) -> list[Told]:
        """Return what has been told of one alert so far."""
        return [told for told in self.told if (told.labels["alertname"], told.status) == (name, status)]

    def wait_for(self, name: str, status: str, timeout: float = 60.0) -> Told:
        """Return the first notification of this alert in this status."""
        deadline = time.monotonic() + timeout
        while not (heard := self.heard(name, status)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not told that {name} is {status}; told: {self.told}")
            time.sleep(POLL_S)
        return heard[0]
