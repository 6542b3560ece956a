"""What scraping costs a server that decodes: the time of its steps with no, one and a hundred scrapers of /metrics.

    python benchmarks/scrape_while_serving.py                       writes results/scrape_while_serving.json
    python benchmarks/scrape_while_serving.py --seconds 2 --rounds 1 --out /tmp/scrapes.json

A real `hisparse serve` decodes long streams of the demo's checkpoint. The time of a step is the time from one line of
its decode log to the next, by the engine's own clock: whatever delays the engine process is in it. The time between two
tokens is what a client of a stream sees, so the front's delay is in it too. Scrapers are a process of their own; the
kinds of load take turns, several rounds of them, because steps become slower as the sequences grow. On a machine with
few cores scrapers, front and engine share them, and the figures show that as well: the last kind of load, a process
that only computes, tells how much of it is the machine.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint

RESULT = Path(__file__).parent / "results" / "scrape_while_serving.json"
HISPARSE = [sys.executable, "-c", "from hisparse_engine.cli import main; main(prog_name='hisparse')"]
MODEL = "demo"
CONTROL = "no scraper, a busy process beside it"
"""What any other process costs on this machine: one that computes all the time, and asks nothing of the server."""
LOADS = {
    "no scraper": (0, 0.0),
    "1 scraper, every second": (1, 1.0),
    "100 scrapers, every second": (100, 1.0),
    "100 scrapers without a pause": (100, 0.0),
    CONTROL: (0, 0.0),
}
"""Name → (scrapers, seconds from one scrape to the next of each)."""
_START_SECONDS = 120.0
_SCRAPER = """
import http.client, sys, threading, time
address, number, pause, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
end, counts = time.monotonic() + seconds, []
def scrape(index):
    connection, done = http.client.HTTPConnection(address, timeout=60), 0
    time.sleep(pause * index / number)
    while time.monotonic() < end:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        assert connection.getresponse().read()
        done += 1
        time.sleep(pause)
    counts.append(done)
threads = [threading.Thread(target=scrape, args=(i,)) for i in range(number)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(counts))
"""


@dataclass
class Streams:
    """Clients that read tokens as they come; the arrival of each is noted by its stream."""

    address: str
    arrivals: list[list[float]] = field(default_factory=list)

    def open(self, number: int, prompt_tokens: int, new_tokens: int) -> None:
        """Start ``number`` streams, and wait until each has its first token."""
        for index in range(number):
            self.arrivals.append([])
            body = {
                "model": MODEL,
                "prompt": [4 + (index * 131 + i * 7) % 4000 for i in range(prompt_tokens)],
                "max_tokens": new_tokens,
                "ignore_eos": True,
                "stream": True,
            }
            threading.Thread(target=self._read, args=(body, self.arrivals[-1]), daemon=True).start()
        while not all(self.arrivals):
            time.sleep(0.05)

    def _read(self, body: dict[str, Any], arrivals: list[float]) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=600)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        try:
            arrivals.extend(time.time() for line in answer if line.startswith(b"data: {"))
        except (OSError, http.client.HTTPException):
            return  # the server is stopped in the middle of it

    def gaps(self, start: float, end: float) -> list[float]:
        """Return the times between neighbouring tokens of a stream, of those that came in a window."""
        return [gap for arrivals in self.arrivals for gap in intervals(list(arrivals), start, end)]


def intervals(times: list[float], start: float, end: float) -> list[float]:
    inside = [one for one in times if start <= one <= end]
    return [b - a for a, b in itertools.pairwise(inside)]


def steps(log: Path) -> list[float]:
    """Return the time of every decode step in a log of JSON lines."""
    lines = log.read_text().splitlines()
    return [json.loads(line)["timestamp"] for line in lines if line.startswith("{") and line.endswith("}")]


def summary(seconds: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    at = lambda q: round(1000 * ordered[min(int(q * len(ordered)), len(ordered) - 1)], 2)  # noqa: E731
    mean = round(1000 * sum(ordered) / len(ordered), 2)
    return {"count": len(ordered), "mean_ms": mean, "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99)}


def cpu_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def start_server(folder: Path, log: Path, streams: int, tokens: int) -> tuple[subprocess.Popen[bytes], str]:
    """Return a server that is up, and its address."""
    command = [
        *HISPARSE, "serve", "--model", str(ensure_demo_checkpoint()), "--served-model-name", MODEL, "--port", "0",
        "--stats-dir", str(folder / "stats"), "--threads", "1", "--max-running-requests", str(streams),
        "--host-tokens", str(streams * tokens), "--log-format", "json", "--decode-log-interval", "1",
        "--drain-timeout", "0",
    ]  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file)
    deadline = time.monotonic() + _START_SECONDS
    while " serves " not in (text := log.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start:\n{text}")
        time.sleep(0.1)
    return process, text.split("http://")[1].split("/")[0]


def load(name: str, address: str, seconds: float) -> int:
    """Put a load on the server, or beside it, for ``seconds``; return how many scrapes were answered."""
    number, pause = LOADS[name]
    if name == CONTROL:
        code = f"import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        return 0
    if not number:
        time.sleep(seconds)
        return 0
    command = [sys.executable, "-c", _SCRAPER, address, str(number), str(pause), str(seconds)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def measure(options: argparse.Namespace, folder: Path, stack: ExitStack) -> dict[str, Any]:
    log, tokens = folder / "log", options.prompt_tokens + options.new_tokens
    process, address = start_server(folder, log, options.streams, tokens)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    streams = Streams(address)
    streams.open(options.streams, options.prompt_tokens, options.new_tokens)
    time.sleep(1)
    windows: dict[str, list[tuple[float, float]]] = {name: [] for name in LOADS}
    scrapes, cpu = dict.fromkeys(LOADS, 0), dict.fromkeys(LOADS, 0.0)
    for _ in range(options.rounds):
        for name in LOADS:
            start, before = time.time(), cpu_seconds(process.pid)
            scrapes[name] += load(name, address, options.seconds)
            windows[name].append((start, time.time()))
            cpu[name] += cpu_seconds(process.pid) - before
    times = steps(log)
    return {
        name: {
            "step": summary([gap for window in windows[name] for gap in intervals(times, *window)]),
            "between_tokens": summary([gap for window in windows[name] for gap in streams.gaps(*window)]),
            "scrapes_per_second": round(scrapes[name] / length, 1),
            "front_cpu_share": round(cpu[name] / length, 3),
        }
        for name in LOADS
        for length in [sum(end - start for start, end in windows[name])]
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each kind of load, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "kernel": platform.release(), "load_before": os.getloadavg()[0]}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hisparse-scrapes-")))
        results = measure(options, folder, stack)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "streams": options.streams,
        "prompt_tokens": options.prompt_tokens,
        **results,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
