"""Attend on the GPU: microseconds, bytes and operations, against what this card can do.

    python -m benchmarks.ops_attend [--out FILE]        default: benchmarks/results/ops_attend.json

A call's floor is the larger of two times: its selected rows' bytes at the bandwidth of a large stream (an addition from
one gigabyte to another), and its operations at the rate of a large bf16 matrix product, both measured first. Selected
rows lie scattered over a pool far larger than the L2 cache, and every call of a CUDA graph has other rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import triton

from hisparse_engine.ops.gpu.attention import attend
from hisparse_engine.ops.gpu.attention_quantised import quantise_rows

RESULT = Path(__file__).parent / "results" / "ops_attend.json"
LATENT, ROPE, K = 512, 64, 2048
WIDTH = LATENT + ROPE
HEADS = (16, 64, 128)  # under tensor parallelism, GLM-5, DeepSeek-V3.2
BATCHES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 256)
FP8_HEADS, FP8_BATCHES = (16, 64), (1, 8, 32, 64, 128, 256)
POOL_ROWS = 3_000_000  # 3.5 GB
FRESH_BYTES = 200_000_000  # of rows read before a graph comes back to the first: four times the L2 cache
SCALE = 192**-0.5


def measure_graph(calls: list[Callable[[], object]], seconds: float = 0.05) -> float:
    """Return the microseconds of one call: the median over replays of a CUDA graph that makes all ``calls`` once."""
    calls[0]()  # compile
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    torch.cuda.synchronize()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000 / len(calls))
    return statistics.median(times)


def measure_limits() -> dict[str, float]:
    """Return the card's bandwidth (bytes that an addition reads and writes, GB/s) and its bf16 rate (TFLOP/s)."""
    source = torch.randn(1 << 29, device="cuda", dtype=torch.bfloat16)
    target = torch.empty_like(source)
    stream = measure_graph([lambda: torch.add(source, 1, out=target)] * 3)
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = measure_graph([lambda: torch.mm(a, b)])
    return {
        "stream_gb_per_s": 4 * (1 << 29) / stream / 1e3,
        "matmul_tflop_per_s": 2 * 8192**3 / product / 1e6,
    }


def random_slots(batch: int, calls: int, generator: torch.Generator) -> torch.Tensor:
    """int32 ``[calls, batch, K]``, anywhere in the pool."""
    shape = (calls, batch, K)
    return torch.randint(0, POOL_ROWS, shape, dtype=torch.int32, device="cuda", generator=generator)


def measure_batch(
    rows: torch.Tensor, heads: int, batch: int, limits: dict[str, float], generator: torch.Generator
) -> dict[str, Any]:
    """One line of the table."""
    moved = batch * K * rows.shape[1] * rows.element_size()
    operations = 2 * batch * heads * K * (WIDTH + LATENT)
    query = torch.randn(batch, heads, WIDTH, device="cuda", dtype=torch.bfloat16, generator=generator)
    slots = random_slots(batch, max(4, FRESH_BYTES // moved), generator)

    def call(some: torch.Tensor) -> Callable[[], object]:
        return lambda: attend(query, rows, some, scale=SCALE, latent_dim=LATENT)

    us = measure_graph([call(some) for some in slots])
    floors = {
        "bytes": moved / limits["stream_gb_per_s"] / 1e3,
        "operations": operations / limits["matmul_tflop_per_s"] / 1e6,
    }
    bound = max(floors, key=lambda name: floors[name])
    return {
        "rows": "fp8" if rows.dtype == torch.uint8 else "bf16",
        "heads": heads,
        "batch": batch,
        "us": round(us, 2),
        "gb_per_s": round(moved / us / 1e3, 1),
        "tflop_per_s": round(operations / us / 1e6, 1),
        "share_of_stream": round(floors["bytes"] / us, 3),
        "share_of_matmul": round(floors["operations"] / us, 3),
        "bound": bound,
        "share_of_floor": round(floors[bound] / us, 3),
    }


def print_table(lines: list[dict[str, Any]]) -> None:
    """One line a measurement, as measured."""
    columns = list(lines[0])
    widths = [max(len(c), *(len(str(line[c])) for line in lines)) for c in columns]
    for line in [dict(zip(columns, columns, strict=True)), *lines]:
        print("  ".join(str(line[c]).rjust(w) for c, w in zip(columns, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULT)
    out = parser.parse_args().out
    generator = torch.Generator("cuda").manual_seed(0)
    limits = measure_limits()
    rows = torch.randn(POOL_ROWS, WIDTH, device="cuda", dtype=torch.bfloat16, generator=generator)
    lines = [measure_batch(rows, heads, batch, limits, generator) for heads in HEADS for batch in BATCHES]
    rows = torch.cat([quantise_rows(part, LATENT) for part in rows.split(1 << 19)])
    lines += [
        measure_batch(rows, heads, batch, limits, generator) for heads in FP8_HEADS for batch in FP8_BATCHES
    ]
    print({name: round(value) for name, value in limits.items()})
    print_table(lines)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": triton.__version__,
        },
        "k": K,
        "row_bytes": {"bf16": 2 * WIDTH, "fp8": rows.shape[1]},
        "limits": limits,
        "measured": lines,
    }
    out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
