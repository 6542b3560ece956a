"""The sidecar as a real process, for the end-to-end tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from tests.support.prometheus import free_port

ROOT = Path(__file__).parents[3]
WAIT_S = 30.0
T = TypeVar("T")


def environment(**more: str) -> dict[str, str]:
    """Return the environment in which a child finds the packages."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "metrics", ROOT / "dashboards")))
    return os.environ | {"PYTHONPATH": path} | more


def eventually(get: Callable[[], T], is_good: Callable[[T], bool]) -> T:
    """Return the first good answer; fail with the last one."""
    deadline = time.monotonic() + WAIT_S
    while not is_good(found := get()):
        assert time.monotonic() < deadline, f"not in {WAIT_S} s; last: {found!r}"
        time.sleep(0.05)
    return found


class Sidecar:
    """``hisparse sidecar ARGUMENTS`` for the length of a ``with`` block, on a free port."""

    def __init__(self, *arguments: str | Path, **popen: object) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        command = [
            sys.executable, "-m", "hisparse_engine", "sidecar", *map(str, arguments), "--web.listen-address", self.address
        ]  # fmt: skip
        options: dict[str, object] = {"env": environment(), "stderr": subprocess.PIPE} | popen
        self.process = subprocess.Popen(command, cwd=ROOT, **options)  # type: ignore[call-overload]

    def __enter__(self) -> Self:
        eventually(lambda: self.process.poll() is not None or self.scrape() is not None, bool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def scrape(self) -> str | None:
        """Return the exposition; ``None`` when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum of the series with these labels; ``None`` without any."""
        found = [
            sample.value
            for family in text_string_to_metric_families(self.scrape() or "")
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def wait_for(self, name: str, value: float | None, **labels: str) -> None:
        """Wait until a series has this value; ``None``: until there is none."""
        eventually(lambda: self.value(name, **labels), lambda found: found == value)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return int(self.process.wait(timeout=WAIT_S))
