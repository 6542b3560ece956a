"""The sidecar beside Debian's mtail on the same files: lines per second, CPU per line, memory, idle CPU, scrapes.

    python benchmarks/sidecar.py [--lines 1000000] [--rounds 5] [--only throughput]

Both are real processes that read the whole file from its beginning; start-up is part of the time. They take turns, and
of each the fastest run counts: the one that the rest of the machine disturbed least; every round's ratio is there too.
As root, all of it runs before everything else on the machine. The files are in the page cache.

mtail keeps four gauges without labels: with the program that one would write first, a pattern a gauge, which survives
another order or more fields (natural); with the four in one pattern (one_pattern: breaks when a field comes between
them); and with one that spells out the whole line of one version (anchored: breaks at the next version). The sidecar
reads every dialect, keeps ranks apart, counts outcomes and serves while it reads. CRI: the same lines as Kubernetes'
container runtime writes them. The result goes to results/sidecar.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

from tests.support import programs  # noqa: E402 - the path comes first
from tests.support.prometheus import free_port  # noqa: E402

RESULT = ROOT / "benchmarks/results/sidecar.json"
TICKS = os.sysconf("SC_CLK_TCK")

GAUGES = "gauge device_tokens\ngauge device_token_usage\ngauge host_tokens\ngauge host_token_usage\n"
ACTIONS = " {\n  device_tokens = $dt\n  device_token_usage = $du\n  host_tokens = $ht\n  host_token_usage = $hu\n}\n"
PARTS = {
    "device_tokens": r"#gpu token: (?P<{0}>\d+)",
    "device_token_usage": r"gpu token usage: (?P<{0}>\d+\.\d+)",
    "host_tokens": r"#cpu token: (?P<{0}>\d+)",
    "host_token_usage": r"cpu token usage: (?P<{0}>\d+\.\d+)",
}
GROUPS = dict(zip(PARTS, ("dt", "du", "ht", "hu"), strict=True))
SPLIT = ", ".join(part.format(GROUPS[name]) for name, part in PARTS.items())
PROGRAMS = {
    "natural": GAUGES
    + "".join(f"/Decode batch.*{part.format('v')}/ {{\n  {name} = $v\n}}\n" for name, part in PARTS.items()),
    "one_pattern": f"{GAUGES}/Decode batch.*{SPLIT}/{ACTIONS}",
    "anchored": rf"{GAUGES}/^\[\d+-\d+-\d+ \d+:\d+:\d+ DP\d+ TP\d+ EP\d+\] Decode batch, #running-req: \d+, {SPLIT}, "
    r"accept len: \d+\.\d+, accept rate: \d+\.\d+, pre-allocated usage: \d+\.\d+, #prealloc-req: \d+, "
    r"#transfer-req: \d+, #retracted-req: \d+, cuda graph: (True|False), gen throughput \(token\/s\): \d+\.\d+, "
    r"#queue-req: \d+$/" + ACTIONS,
}


# -- logs -------------------------------------------------------------------------------------------------------


def decode_line(index: int, rank: int) -> str:
    """Return a decode line of a rank; every number moves."""
    host = 600_000 + 37 * index % 700_000
    return (
        f"[2026-08-23 {index // 3600 % 24:02}:{index // 60 % 60:02}:{index % 60:02} DP{rank} TP{rank} EP{rank}] "
        f"Decode batch, #running-req: {16 + index % 48}, #gpu token: {90_000 + index % 9000}, gpu token usage: "
        f"0.{80 + index % 19:02}, #cpu token: {host}, cpu token usage: 0.{100 * host // 1_400_000:02}, accept len: "
        f"{2 + index % 2}.{index % 100:02}, accept rate: 0.{60 + index % 40}, pre-allocated usage: 0.0{index % 10}, "
        f"#prealloc-req: {index % 3}, #transfer-req: {index % 4}, #retracted-req: 0, cuda graph: True, "
        f"gen throughput (token/s): {900 + index % 700}.{index % 100:02}, #queue-req: {index % 7}"
    )


def other_line(index: int) -> str:
    """Return one of the lines that a server prints between its batches."""
    stamp = f"[2026-08-23 10:{index // 60 % 60:02}:{index % 60:02}]"
    return (
        f'{stamp} INFO:     10.90.1.{index % 250}:{40_000 + index % 20_000} - "POST /v1/chat/completions HTTP/1.1" 200 OK',
        f'{stamp} INFO:     127.0.0.1:52024 - "GET /metrics HTTP/1.1" 200 OK',
        f"{stamp} Using default HuggingFace chat template with detected content format: string",
        "  warnings.warn(f'a warning of some library, wrapped over two lines, as they are')",
    )[index % 4]


def cri(index: int) -> str:
    """Return what the container runtime puts before a line."""
    return f"2026-08-23T10:{index // 60 % 60:02}:{index % 60:02}.{123_456_789 + index}Z stderr F "


def write_log(
    path: Path,
    lines: int,
    *,
    decode_every: int,
    ranks: int = 8,
    envelope: Callable[[int], str] = lambda _: "",
) -> None:
    """Write a log in which each ``decode_every``-th line is a decode line."""
    with path.open("w") as file:
        for index in range(lines):
            is_decode = index % decode_every == 0
            line = decode_line(index, index // decode_every % ranks) if is_decode else other_line(index)
            file.write(f"{envelope(index)}{line}\n")


# -- processes --------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Return what a living process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid: int) -> float:
    """Return the largest resident set of a living process so far."""
    [line] = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 1024


class Sidecar:
    """``hisparse sidecar`` over one log."""

    def __init__(self, log: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [
            sys.executable,
            "-m",
            "hisparse_engine",
            "sidecar",
            "--sglang-log",
            str(log),
            "--from-start",
        ]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'metrics'}"}
        self.process = subprocess.Popen(
            [*command, "--web.listen-address", f"127.0.0.1:{port}"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Sidecar:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def get(self, path: str = "/metrics") -> bytes:
        """Return a body; empty while nobody answers."""
        try:
            request = urllib.request.Request(self.url + path, headers={"Accept-Encoding": "gzip"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                body = answer.read()
                return gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body
        except OSError:
            return b""

    def lines(self) -> float:
        """Return how many lines have been read."""
        found = [line for line in self.get().splitlines() if line.startswith(b"hisparse_source_lines_total")]
        return sum(float(line.split()[-1]) for line in found)

    def wait_for(self, lines: int) -> None:
        """Wait until that many lines have been read."""
        while self.lines() < lines:
            time.sleep(0.05)


def figures(lines: int, wall: float, cpu: float, peak: float) -> dict[str, float]:
    """Return one run's result."""
    return {
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "lines_per_s": round(lines / wall),
        "cpu_us_per_line": round(1e6 * cpu / lines, 2),
        "peak_rss_mib": round(peak, 1),
    }


def run_sidecar(log: Path, lines: int) -> dict[str, float]:
    """Read the whole log with the sidecar."""
    began = time.perf_counter()
    with Sidecar(log) as sidecar:
        sidecar.wait_for(lines)
        wall, pid = time.perf_counter() - began, sidecar.process.pid
        return figures(lines, wall, cpu_seconds(pid), peak_mib(pid))


def run_mtail(log: Path, lines: int, program: Path) -> dict[str, float]:
    """Read the whole log with mtail."""
    command = [str(programs.find_program("mtail")), "--one_shot", "--logs", str(log), "--progs", str(program)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    assert status == 0
    assert "host_tokens" in output, "mtail's program matched nothing"
    return figures(lines, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


# -- measurements -----------------------------------------------------------------------------------------------


LOGS: dict[str, tuple[int, Callable[[int], str]]] = {
    "all_decode": (1, lambda _: ""),
    "mixed_20_percent": (5, lambda _: ""),
    "all_decode_cri": (1, cri),
    "mixed_20_percent_cri": (5, cri),
}


def throughput(folder: Path, lines: int, rounds: int) -> dict[str, Any]:
    """Compare on all-decode logs and on logs in which every fifth line is a decode line."""
    for kind, text in PROGRAMS.items():
        (folder / f"{kind}.mtail").write_text(text)
    results: dict[str, Any] = {}
    for name, (every, envelope) in LOGS.items():
        log = folder / f"{name}.log"
        write_log(log, lines, decode_every=every, envelope=envelope)
        results[name] = {"bytes_per_line": round(log.stat().st_size / lines)} | compared(
            log, lines, 1 if name.endswith("_cri") else rounds
        )
        if not name.endswith("_cri"):  # The anchored program is for bare lines.
            for kind in ("one_pattern", "anchored"):
                results[name][f"mtail_{kind}"] = run_mtail(log, lines, folder / f"{kind}.mtail")
        log.unlink()
        say(name, results[name])
    return results


def compared(log: Path, lines: int, num_rounds: int) -> dict[str, Any]:
    """Let the sidecar and mtail's natural program take turns."""
    runs: dict[str, list[dict[str, float]]] = {"sidecar": [], "mtail_natural": []}
    for _ in range(num_rounds):
        runs["sidecar"].append(run_sidecar(log, lines))
        runs["mtail_natural"].append(run_mtail(log, lines, log.parent / "natural.mtail"))
    ratios = [round(b["wall_s"] / a["wall_s"], 1) for a, b in zip(*runs.values(), strict=True)]
    best = {name: min(of, key=lambda run: run["wall_s"]) for name, of in runs.items()}
    ours, theirs = best.values()
    return {
        "times_as_fast_as_natural": round(theirs["wall_s"] / ours["wall_s"], 1),
        "in_each_round": ratios,
        "cpu_of_natural_over_ours": round(theirs["cpu_s"] / ours["cpu_s"], 1),
        "load_average": round(os.getloadavg()[0], 2),
        **best,
    }


def startup(folder: Path) -> dict[str, float]:
    """Measure a start with an empty log, to the first answer; it is part of every other figure."""
    log = folder / "empty.log"
    log.touch()
    began = time.perf_counter()
    with Sidecar(log) as sidecar:
        while not sidecar.get():
            time.sleep(0.01)
        return {
            "wall_s": round(time.perf_counter() - began, 2),
            "cpu_s": round(cpu_seconds(sidecar.process.pid), 2),
            "peak_rss_mib": round(peak_mib(sidecar.process.pid), 1),
        }


def idle(folder: Path, seconds: float, files: int) -> dict[str, float]:
    """Measure the CPU of a sidecar whose logs are silent; many are looked at less often after a minute."""
    (folder / "idle").mkdir(exist_ok=True)
    for number in range(files):
        write_log(folder / f"idle/{number}.log", 100, decode_every=1)
    with Sidecar(folder / "idle/*.log") as sidecar:
        sidecar.wait_for(100 * files)
        time.sleep(70 if files > 1 else 5)
        before, began = cpu_seconds(sidecar.process.pid), time.perf_counter()
        time.sleep(seconds)
        used, wall = cpu_seconds(sidecar.process.pid) - before, time.perf_counter() - began
    shutil.rmtree(folder / "idle")
    return {"files": files, "seconds": round(wall, 1), "cpu_percent": round(100 * used / wall, 3)}


def scrapes(folder: Path, ranks: int = 512) -> dict[str, Any]:
    """Scrape a sidecar of many ranks: one client, then a hundred at once."""
    log = folder / "ranks.log"
    write_log(log, 2 * ranks, decode_every=1, ranks=ranks)
    with Sidecar(log) as sidecar:
        sidecar.wait_for(2 * ranks)
        body = sidecar.get()
        alone = list(timed(sidecar.get, 200))
        storm = list(in_threads(sidecar.get, clients=100, each=5))
        return {
            "ranks": ranks,
            "bytes": len(body),
            "series": sum(not line.startswith(b"#") for line in body.splitlines()),
            "one_client_ms": quantiles(alone),
            "hundred_clients_ms": quantiles(storm),
            "peak_rss_mib": round(peak_mib(sidecar.process.pid), 1),
        }


def soak(folder: Path, lines: int) -> dict[str, Any]:
    """Read many lines, and look at the memory on the way."""
    log = folder / "soak.log"
    write_log(log, lines, decode_every=5)
    memory: dict[str, float] = {}
    began = time.perf_counter()
    with Sidecar(log) as sidecar:
        for share in (10, 25, 50, 100):
            sidecar.wait_for(lines * share // 100)
            memory[f"at_{share}_percent"] = round(peak_mib(sidecar.process.pid), 1)
    return {"lines": lines, "wall_s": round(time.perf_counter() - began, 1), "peak_rss_mib": memory}


def timed(call: Callable[[], object], times: int) -> Iterator[float]:
    """Yield the milliseconds of each call."""
    for _ in range(times):
        began = time.perf_counter()
        assert call()
        yield 1e3 * (time.perf_counter() - began)


def in_threads(call: Callable[[], object], clients: int, each: int) -> list[float]:
    """Return the milliseconds of all calls of clients that call at the same time."""
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.extend(timed(call, each))) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == clients * each, "a scrape failed"
    return found


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the largest."""
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "max": round(max(values), 1)}


def say(name: str, result: object) -> None:
    """Show progress."""
    print(name, json.dumps(result), flush=True)


def machine() -> dict[str, Any]:
    """Return where this was measured."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    load = [round(value, 2) for value in os.getloadavg()]
    return {
        "cpu": models[0].partition(": ")[2] if models else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_average_before": load,
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    }


def come_first() -> None:
    """As root, go before what else runs on the machine, sidecar and mtail alike; the scheduler groups by session."""
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.setsid()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        Path("/proc/self/autogroup").write_text("-10")


def main() -> None:
    """Measure all and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each in turn")
    parser.add_argument("--soak", type=int, default=10_000_000, help="lines of the soak")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of silence")
    parts = ("startup", "throughput", "idle", "scrapes", "soak")
    parser.add_argument(
        "--only", nargs="+", choices=parts, help="measure these; keep the rest of the last result"
    )
    options = parser.parse_args()
    come_first()
    programs.PACKAGES.setdefault("mtail", "mtail")
    mtail = subprocess.run(
        [str(programs.find_program("mtail")), "--version"], capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(RESULT.read_text()) if options.only else {}
    result |= {
        "date": datetime.now(UTC).isoformat(),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            "prometheus-client": version("prometheus-client"),
            "mtail": mtail.stdout.strip(),
        },
        "lines": options.lines,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Callable[[], Any]] = {
            "startup": lambda: startup(folder),
            "throughput": lambda: throughput(folder, options.lines, options.rounds),
            "idle": lambda: [idle(folder, options.idle, files) for files in (1, 512)],
            "scrapes": lambda: scrapes(folder),
            "soak": lambda: soak(folder, options.soak),
        }
        for part in options.only or parts:
            result[part] = parts[part]()
            say(part, result[part])
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
