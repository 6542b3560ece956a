"""Swap-in on a GPU against its limits and against SGLang's kernel: benchmarks/swap_in.py --out FILE [--quick].

With --from FILE nothing is measured: the table is printed, and drawn with --png, from an earlier run's results. What the
workload is, is told in swap_in_workload.py; what a call and a chained call are, in swap_in_measure.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

from benchmarks.swap_in_peer import MISSES, recorded  # noqa: E402
from benchmarks.swap_in_workload import TOKENS, Shape  # noqa: E402

BATCHES = (1, 8, 32, 64, 128, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the results here, as JSON")
    parser.add_argument(
        "--quick", action="store_true", help="656-byte rows, 4096 seats, warm and production-like"
    )
    parser.add_argument("--host-gb", type=float, default=24.0, help="pinned host memory, at least 6")
    parser.add_argument(
        "--tokens", type=int, default=TOKENS, help="how long each request's cycle of tokens is"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="start no cell after this long")
    parser.add_argument("--from", dest="source", type=Path, help="show an earlier run's results")
    parser.add_argument("--png", type=Path, help="draw the results here")
    arguments = parser.parse_args()
    if arguments.source:
        results = json.loads(arguments.source.read_text())
    else:
        results = run(arguments.quick, arguments.tokens, int(arguments.host_gb * 1000**3), arguments.seconds)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    for line in table(results):
        print(line)
    if arguments.png:
        from benchmarks.swap_in_picture import draw

        draw(results, arguments.png)


def cells(quick: bool, tokens: int) -> Iterator[tuple[Shape, bool]]:
    """Yield every cell's shape, and whether it is production-like; the most telling ones first."""
    for row_bytes, buffer in (
        ((656, 4096),) if quick else ((656, 4096), (1152, 4096), (656, 6144), (1152, 6144))
    ):
        for production, contiguous in ((False, False), (True, False), (True, True)):
            for batch in BATCHES:
                for misses in MISSES:
                    yield Shape(batch, misses, row_bytes, buffer, contiguous, tokens), production


def run(quick: bool, tokens: int, host_bytes: int, seconds: float) -> dict[str, Any]:
    import torch

    from benchmarks.swap_in_measure import Bench

    started = time.perf_counter()
    bench = Bench(host_bytes)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(),
        "versions": {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
        },
        "host_bytes": host_bytes,
        "cycle_tokens": tokens,
        "limits": {
            "copy_engine_gb_s": bench.copy_engine(),
            "contiguous_gb_s": bench.contiguous(),
            "empty_graph_us": bench.empty_graph(),
        },
        "cells": [],
    }
    limits: dict[tuple[int, int, int, bool], float] = {}
    for shape, production in cells(quick, tokens):
        if time.perf_counter() - started > seconds:
            break
        key = (shape.row_bytes, shape.batch, shape.misses, production)
        if shape.misses and key not in limits:
            limits[key] = bench.scattered(shape, production)
        results["cells"].append(cell(bench, shape, production, limits.get(key)))
    return results


def cell(bench: Any, shape: Shape, production: bool, limit: float | None) -> dict[str, Any]:
    times = bench.measure(shape, production)
    moved = shape.batch * shape.misses * shape.row_bytes
    peer = recorded(shape.batch, shape.misses, shape.row_bytes, shape.buffer, production, shape.contiguous)
    assert times.copies == shape.batch * shape.misses, (shape, times.copies)
    return {
        "batch": shape.batch,
        "misses": shape.misses,
        "row_bytes": shape.row_bytes,
        "buffer": shape.buffer,
        "production": production,
        "contiguous": shape.contiguous,
        "plan_call_us": round(times.plan_call, 2),
        "plan_us": round(times.plan_chained, 2),
        "call_us": round(times.call, 2),
        "us": round(times.chained, 2),
        "gb_s": round(moved / times.chained * 1e-3, 2),
        "limit_us": limit and round(limit, 2),
        "share_of_limit": limit and round(limit / times.chained, 3),
        "peer_us": peer,
        "times_faster": peer and round(peer / times.chained, 2),
        "times_faster_call": peer and round(peer / times.call, 2),
        "wrong_rows": times.wrong_rows,
    }


def table(results: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each cell, grouped by what is the same."""
    yield f"{results['gpu']}, {results['date']}: {results['limits']}"
    group = None
    for c in results["cells"]:
        this = (c["row_bytes"], c["buffer"], c["production"], c["contiguous"])
        if this != group:
            group = this
            yield (
                f"\n{c['row_bytes']}-byte rows, {c['buffer']} seats, {'production-like' if c['production'] else 'warm'}, "
                f"{'contiguous' if c['contiguous'] else 'pages'}: µs chained (a graph for each call), plan alone"
            )
            yield "batch     m      µs  (call)  plan  (call)   GB/s  limit  share   peer  times faster (call)"
        wrong = "" if not c["wrong_rows"] else f"  WRONG ROWS: {c['wrong_rows']}"
        yield (
            f"{c['batch']:5} {c['misses']:5} {c['us']:8.1f} {c['call_us']:7.1f} {c['plan_us']:6.1f} "
            f"{c['plan_call_us']:6.1f} {c['gb_s']:6.1f} {c['limit_us'] or 0:7.1f} {c['share_of_limit'] or 0:5.2f} "
            f"{c['peer_us'] or 0:7.1f} {c['times_faster'] or 0:5.2f} ({c['times_faster_call'] or 0:.2f}){wrong}"
        )


if __name__ == "__main__":
    main()
