"""What being watched costs a step: timing swap-ins, publishing, scrapes once a second, and a storm of scrapes.

    python benchmarks/observability.py            the demo's model on the CPU, or a large one on a GPU
    python benchmarks/observability.py --rounds 3 --window-seconds 0.3 --out /tmp/observability.json

Two engines are alike, but one does not time its swap-ins; one at a time decodes. Windows of steps take turns under each
condition; in every round the order is another.
Per round, a condition's median step is set against that of "off" in the same round; over the rounds that makes a mean
difference with a 95 % confidence interval. "off, again" is the control: what a difference of nothing looks like. The
exporter and the scrapers are processes of their own, as in production. On a machine with few cores they take the
engine's core away, whatever they ask for: "busy process" is how much.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

import torch  # noqa: E402 - the path comes first

from benchmarks.decode_measure import percentile  # noqa: E402
from benchmarks.observability_engines import Pair, cpu_engines, gpu_engines  # noqa: E402
from benchmarks.observability_figures import describe  # noqa: E402
from hisparse_metrics.recorder import Recorder  # noqa: E402
from hisparse_metrics.stats import EngineIdentity, StepStats  # noqa: E402

RESULTS = Path(__file__).parent / "results"
CLI = [sys.executable, "-c", "from hisparse_engine.cli import main; main(prog_name='hisparse')", "exporter"]
_HELPER = """
import http.client, sys, threading, time
port, threads = int(sys.argv[1]), int(sys.argv[2])
active, pause, busy, done = 0, 1.0, False, 0
def scrape(number):
    global done
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while True:
        if number >= active:
            time.sleep(0.02)
            continue
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        assert connection.getresponse().read()
        done += 1
        time.sleep(pause)
def compute():
    while True:
        if not busy:
            time.sleep(0.02)
for number in range(threads):
    threading.Thread(target=scrape, args=(number,), daemon=True).start()
threading.Thread(target=compute, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    count, seconds, computes = line.split()
    active, pause, busy = int(count), float(seconds), computes == "1"
    if not active:
        time.sleep(0.05)  # scrapes under way end, and count where they began
    print(done, flush=True)
"""


class Condition(NamedTuple):
    """Whether steps are published; how many scrapers ask, with how long a pause; whether a process computes beside.

    ``timed``: whether swap-ins are timed, as in production.
    """

    published: bool = False
    scrapers: int = 0
    pause: float = 1.0
    busy: bool = False
    timed: bool = True


OFF = "off"
CONDITIONS = {
    OFF: Condition(),
    "off, again": Condition(),
    "off, swap-ins not timed": Condition(timed=False),
    "published": Condition(published=True),
    "published, scraped every second": Condition(published=True, scrapers=1),
    "published, 32 scrapers without a pause": Condition(published=True, scrapers=32, pause=0.0),
    "off, a busy process beside it": Condition(busy=True),
}


class Switch:
    """An observer that publishes when told to, and knows what publishing took."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.on = False
        self.seconds: list[float] = []

    def __call__(self, step: StepStats) -> None:
        if self.on:
            started = time.perf_counter()
            self._recorder.publish(step)
            self.seconds.append(time.perf_counter() - started)


class Helper:
    """The process that scrapes, or only computes."""

    def __init__(self, port: int, most: int) -> None:
        command = [sys.executable, "-c", _HELPER, str(port), str(most)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def set(self, condition: Condition) -> int:
        """Change what it does; return how many scrapes were answered so far."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{condition.scrapers} {condition.pause} {int(condition.busy)}\n")
        self.process.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def window(step: Callable[[], int], seconds: float) -> list[float]:
    """Return the milliseconds of each step within ``seconds``; at least ten."""
    times = [time.perf_counter()]
    while times[-1] - times[0] < seconds or len(times) < 11:
        step()
        times.append(time.perf_counter())
    return [1000 * (b - a) for a, b in pairwise(times)]


def measure(engines: Pair, switch: Switch, helper: Helper, rounds: int, seconds: float) -> dict[str, Any]:
    """Return each condition's steps, and how far they are from those of "off"."""
    steps: dict[str, list[list[float]]] = {name: [] for name in CONDITIONS}
    scrapes, lasted = dict.fromkeys(CONDITIONS, 0), dict.fromkeys(CONDITIONS, 0.0)
    names = list(CONDITIONS)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            switch.on = CONDITIONS[name].published
            watched = engines.timed if CONDITIONS[name].timed else engines.untimed
            before, started = helper.set(CONDITIONS[name]), time.perf_counter()
            window(watched.step, 0.1 * seconds)  # until the change is felt
            steps[name].append(window(watched.step, seconds))
            lasted[name] += time.perf_counter() - started
            scrapes[name] += helper.set(Condition()) - before
    off = [median(of_round) for of_round in steps[OFF]]
    return {
        name: describe(of_name, off) | {"scrapes_per_second": round(scrapes[name] / lasted[name], 1)}
        for name, of_name in steps.items()
    }


def start_exporter(folder: Path, stack: ExitStack) -> int:
    """Start `hisparse exporter` over the page; return its port."""
    process = subprocess.Popen(
        [*CLI, "--stats-dir", str(folder), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    said = ""
    while not (found := re.search(r"http://[^:/]+:(\d+)", said)):
        line = process.stdout.readline().decode()
        if not line:
            raise SystemExit(f"the exporter did not start:\n{said}")
        said += line
    return int(found[1])


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--window-seconds", type=float, default=0.3 if on_gpu else 1.0)
    parser.add_argument("--requests", type=int, default=32 if on_gpu else 4)
    parser.add_argument(
        "--out", type=Path, default=RESULTS / f"observability_{'gpu' if on_gpu else 'cpu'}.json"
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=shared, prefix="hisparse-bench-")))
        switch = Switch(stack.enter_context(Recorder(folder, EngineIdentity(model_name="bench"))))
        engines = gpu_engines(options.requests, switch) if on_gpu else cpu_engines(options.requests, switch)
        port = start_exporter(folder, stack)
        helper = Helper(port, max(condition.scrapers for condition in CONDITIONS.values()))
        stack.callback(helper.process.wait)
        stack.callback(helper.process.kill)
        results = measure(engines, switch, helper, options.rounds, options.window_seconds)
    report = {
        "benchmark": "observability",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "gpu": torch.cuda.get_device_name() if on_gpu else None},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "engine": engines.timed.about,
        "rounds": options.rounds,
        "publish_us": {f"p{share}": round(1e6 * percentile(switch.seconds, share), 2) for share in (50, 99)},
        "conditions": results,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    for name, figures in results.items():
        low, high = figures["difference_us_95"]
        print(
            f"{name:42s} {figures['median_ms']:9.3f} ms  {low:+9.1f} … {high:+9.1f} us  "
            f"{figures['scrapes_per_second']:8.1f} scrapes/s  {'within noise' if figures['within_noise'] else 'differs'}"
        )


if __name__ == "__main__":
    main()
