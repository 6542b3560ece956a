"""A scrape storm on `hisparse exporter`: many clients at once over the pages of many ranks.

    python benchmarks/scrape_storm.py                     512 ranks, 100 clients; writes results/scrape_storm.json
    python benchmarks/scrape_storm.py --ranks 8 --clients 10 --scrapes 5 --out /tmp/storm.json

Clients ask as Prometheus does: its Accept header, gzip, one kept connection each. First one client alone, then all
together, then all together while as many slow clients as the exporter has places keep opening connections. The pages
are written by this process and do not change meanwhile; the clients are threads of this process, so on a small
machine the figures have their cost in them too.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hisparse_metrics.recorder import Recorder
from hisparse_metrics.stats import Duration, EngineIdentity, Levels, StepStats, Totals

RESULT = Path(__file__).parent / "results" / "scrape_storm.json"
CLI = [sys.executable, "-c", "from hisparse_engine.cli import main; main(prog_name='hisparse')", "exporter"]
HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding": "gzip",
}
NUM_SLOW = 300


@dataclass(frozen=True)
class Scrape:
    """One scrape: how long it took, and what came."""

    seconds: float
    status: int
    num_bytes: int


def publish(folder: Path, rank: int, stack: ExitStack) -> None:
    recorder = stack.enter_context(Recorder(folder, EngineIdentity(model_name="bench", dp_rank=rank)))
    n = 1000 + 7 * rank
    durations = tuple(
        Duration(name, 0.001 * (1 + rank % 50)) for name in ("decode_step_seconds", "swap_in_seconds")
    )
    levels = Levels(
        device_tokens=131_072, device_token_capacity=196_608, device_tokens_spare=65_000,
        host_tokens=900_000 + rank, host_token_capacity=1_500_000, host_tokens_reserved=60_000,
        index_tokens=900_000 + rank, index_token_capacity=1_500_000,
        running_requests=32, waiting_requests=3, staging_requests=1,
    )  # fmt: skip
    recorder.publish(
        StepStats(time.time(), True, levels, Totals(n, 64 * n, 32 * n, 4000 * n, 3990 * n, 10 * n), durations)
    )


def scrape(connection: http.client.HTTPConnection) -> Scrape:
    started = time.perf_counter()
    try:
        connection.request("GET", "/metrics", headers=HEADERS)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return Scrape(time.perf_counter() - started, 0, 0)
    return Scrape(time.perf_counter() - started, answer.status, len(body))


def client(port: int, num_scrapes: int, start: threading.Barrier) -> list[Scrape]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    start.wait()
    scrapes = [scrape(connection) for _ in range(num_scrapes)]
    connection.close()
    return scrapes


def storm(port: int, num_clients: int, num_scrapes: int) -> list[Scrape]:
    start = threading.Barrier(num_clients)
    with ThreadPoolExecutor(num_clients) as pool:
        running = [pool.submit(client, port, num_scrapes, start) for _ in range(num_clients)]
        return [scrape for one in running for scrape in one.result()]


def hold_slow_clients(port: int, stop: threading.Event) -> None:
    """Keep more connections open than there are places, each with half a request; reopen what is cut off."""
    with ExitStack() as stack:
        while not stop.is_set():
            for _ in range(NUM_SLOW):
                with suppress(OSError):
                    slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                    slow.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
            stop.wait(0.5)
            stack.close()


def summary(scrapes: list[Scrape]) -> dict[str, Any]:
    seconds = sorted(scrape.seconds for scrape in scrapes)
    quantile = lambda q: round(seconds[min(int(q * len(seconds)), len(seconds) - 1)], 4)  # noqa: E731
    return {
        "scrapes": len(scrapes),
        "failed": sum(scrape.status != 200 for scrape in scrapes),
        "p50_seconds": quantile(0.5),
        "p90_seconds": quantile(0.9),
        "p99_seconds": quantile(0.99),
        "max_seconds": quantile(1.0),
        "body_bytes_gzip": max(scrape.num_bytes for scrape in scrapes),
    }


def process_facts(pid: int) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    return {
        "peak_rss_mib": round(int(peak[1]) / 1024, 1),
        "cpu_seconds": (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"),
    }


def measure(options: argparse.Namespace, port: int, pid: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics", headers=HEADERS)
    plain = gzip.decompress(connection.getresponse().read())
    results: dict[str, Any] = {
        "body_bytes": len(plain),
        "samples": sum(not line.startswith(b"#") for line in plain.splitlines()),
        "exporter_after_first_scrape": process_facts(pid),
        "one_client": summary(storm(port, 1, 5)),
        "storm": summary(storm(port, options.clients, options.scrapes)),
    }
    stop = threading.Event()
    attack = threading.Thread(target=hold_slow_clients, args=(port, stop))
    attack.start()
    results[f"storm_beside_{NUM_SLOW}_slow_clients"] = summary(storm(port, options.clients, options.scrapes))
    stop.set()
    attack.join()
    return results | {"exporter_at_the_end": process_facts(pid)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=512)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--scrapes", type=int, default=4, help="of each client, one after the other")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "kernel": platform.release(), "load_before": os.getloadavg()[0]}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hisparse-storm-")))
        for rank in range(options.ranks):
            publish(folder, rank, stack)
        command = [*CLI, "--stats-dir", str(folder), "--listen", "127.0.0.1:0"]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        found = re.search(r":(\d+)/metrics", process.stdout.readline())
        assert found is not None
        results = measure(options, int(found[1]), process.pid)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": {"python": platform.python_version(), "prometheus-client": version("prometheus-client")},
        "ranks": options.ranks,
        "clients": options.clients,
        **results,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
