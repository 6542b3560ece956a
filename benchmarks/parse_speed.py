"""How many lines of an SGLang log one core parses in a second: every record of a line in full, not four gauges.

    PYTHONPATH=metrics python benchmarks/parse_speed.py            prints a table and writes results/parse_speed.json

Lines are made in advance and fed as bytes; reading a file is not measured. Token counts and rates change from line
to line as they do in a log. Time is the process's own CPU time, best of the rounds.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from hisparse_metrics.sglang import LogParser

RESULT = Path(__file__).parent / "results" / "parse_speed.json"
LINES = 50_000
ROUNDS = 5
STAMP = "2026-08-23T09:10:52.123456789Z"


def decode_line(n: int, more: str = "") -> str:
    """Return line ``n`` of eight ranks that decode with HiSparse."""
    seconds = n // 8
    stamp = f"{9 + seconds // 3600 % 12:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return (
        f"[2026-08-23 {stamp} DP{n % 8} TP{n % 8} EP{n % 8}] Decode batch, #running-req: {20 + n // 997 % 30}, "
        f"#gpu token: {196_608 - n % 4096}, gpu token usage: 0.{n // 53 % 100:02}, "
        f"#cpu token: {1_000_000 + 37 * n}, cpu token usage: 0.{n // 71 % 100:02}, "
        f"accept len: 3.{n % 100:02}, accept rate: 0.7{n % 10}, cuda graph: True, "
        f"gen throughput (token/s): {1500 + n * 7919 % 50_000 / 100:.2f}, #queue-req: {n % 5}{more}"
    )


def prefill_line(n: int) -> str:
    """Return a prefill line."""
    return (
        f"[2026-08-23 09:06:04 DP{n % 8} TP{n % 8} EP{n % 8}] Prefill batch, #new-seq: 1, #new-token: {8192 - n % 99}, "
        f"#cached-token: {n % 777}, token usage: 0.{n % 100:02}, #running-req: {n % 32}, #queue-req: {n % 9}, "
        f"#pending-token: {n % 9999}, cuda graph: False, input throughput (token/s): {n % 90_000}.25"
    )


def other_line(n: int) -> str:
    """Return an access line, the most frequent of the others."""
    return f'[2026-08-23 09:05:54] INFO:     10.90.1.5:{n % 60_000} - "POST /v1/chat/completions HTTP/1.1" 200 OK'


def mixed_line(n: int) -> str:
    """Return a decode line every fifth time."""
    return decode_line(n) if n % 5 == 0 else other_line(n)


def docker_line(n: int) -> str:
    """Return a decode line as Docker's JSON file has it."""
    return json.dumps({"log": decode_line(n) + "\n", "stream": "stderr", "time": STAMP})


LOGS: dict[str, Callable[[int], str]] = {
    "all decode": decode_line,
    "all decode, a field that the parser does not know": lambda n: decode_line(n, ", #new-field: 3"),
    "half prefill": lambda n: decode_line(n) if n % 2 else prefill_line(n),
    "one fifth decode": mixed_line,
    "all decode, CRI": lambda n: f"{STAMP} stderr F {decode_line(n)}",
    "all decode, Docker JSON": docker_line,
    "all decode, Ray": lambda n: f"(SGLangEngine pid=4182, ip=10.0.0.7) {decode_line(n)}",
    "no record": other_line,
}


def measure(lines: list[bytes]) -> Iterator[float]:
    """Yield the CPU seconds of parsing ``lines``, again and again, each time with a new parser."""
    while True:
        parser = LogParser()
        begin = time.process_time()
        for line in lines:
            parser.feed(line)
        yield time.process_time() - begin


def main() -> None:
    """Measure each log, print and write the result."""
    result: dict[str, dict[str, float]] = {}
    for name, make in LOGS.items():
        lines = [make(n).encode() + b"\n" for n in range(LINES)]
        best = min(islice(measure(lines), ROUNDS))
        size = sum(map(len, lines)) / LINES
        result[name] = {"lines_per_second": round(LINES / best), "bytes_per_line": round(size, 1)}
        print(f"{LINES / best / 1e3:7.0f} k lines/s  {size:4.0f} B/line  {name}")
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    RESULT.write_text(json.dumps({"machine": machine, "logs": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
