"""``hisparse serve`` as a process: started on a free port, its words collected, the official client beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
MODEL = "tiny"
TIMEOUT_S = 60.0
SMALL = ("--threads", "1", "--decode-log-interval", "1000000", "--served-model-name", MODEL)


class Serving:
    """A server that is up. ``errors`` has what it wrote to standard error so far, unless that went elsewhere."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.errors: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        self.url = ""

    def wait_for(self, text: str) -> str:
        """Return the first line of standard error with ``text`` in it."""
        with self._news:
            found = self._news.wait_for(
                lambda: next((line for line in self.errors if text in line), None) or self._ended(), TIMEOUT_S
            )
        assert isinstance(found, str), f"no {text!r} in: {''.join(self.errors)}"
        return found

    def client(self, **options: Any) -> openai.OpenAI:
        """Return the official client, which tries once unless told otherwise."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            **{"api_key": "none", "max_retries": 0, "timeout": TIMEOUT_S, **options},
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code of a server that ends, its last words collected."""
        code = self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        return code

    def engine_pid(self) -> int:
        """Return the engine process's id."""
        (pid,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(pid)

    def get(self, path: str) -> tuple[int, Any]:
        """Return the status and JSON of ``path``."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=TIMEOUT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def metrics(self) -> dict[str, float]:
        """Return every sample, those of a label summed up."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=TIMEOUT_S) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        values: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            for name in {sample.name, f"{sample.name}:{sample.labels.get('outcome')}"}:
                values[name] = values.get(name, 0.0) + sample.value
        return values

    def _ended(self) -> bool:
        return self.process.poll() is not None and not self._reader.is_alive()

    def _collect(self) -> None:
        for line in self.process.stderr or ():
            with self._news:
                self.errors.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


@contextmanager
def serving(checkpoint: Path, stats_dir: Path, *arguments: str) -> Iterator[Serving]:
    """Run a server, up at the first moment of the block and gone after its last."""
    server = Serving(launch(checkpoint, stats_dir, *arguments))
    try:
        server.url = server.wait_for(" serves ").split(" at ")[1].strip().removesuffix("/v1")
        yield server
    finally:
        server.process.kill()
        server.wait()


def launch(checkpoint: Path, stats_dir: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a server; it is not up yet."""
    command = [sys.executable, "-m", "hisparse_engine", "serve", "--model", str(checkpoint), "--port", "0"]
    return subprocess.Popen(
        [*command, "--stats-dir", str(stats_dir), *SMALL, *arguments],
        **{
            "cwd": ROOT,
            "env": {**os.environ, "OMP_NUM_THREADS": "1"},
            "stdin": subprocess.DEVNULL,
            "stderr": subprocess.PIPE,
            "text": True,
            **options,
        },
    )


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Ask until ``holds``; fail with ``what`` when it does not come true."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
