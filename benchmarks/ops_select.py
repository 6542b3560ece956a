"""Select on a CUDA device: time, bytes and their share of the measured memory bandwidth.

python -m benchmarks.ops_select --out benchmarks/results/ops_select.json [--batches 1 32 --lengths 32768 ...]

Bytes are the index keys that must be read: 256 a key in bf16, 132 in fp8 with its scale. Keys lie in pages of 64 slots in
random order. Calls are replayed from a CUDA graph, each on other requests of a pool that no cache holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import torch
import triton

from hisparse_engine.ops.gpu.select import score_tokens, select
from hisparse_engine.ops.gpu.topk import take_best
from hisparse_engine.ops.tables import IndexKeyRows

DIM, TOP_K, PAGE = 128, 2048, 64
COLD_BYTES = 400_000_000
"""Distinct keys that a graph reads, at least: several times the L2 cache."""
REPLAYS = 7
BYTES = {"bf16": 2 * DIM, "fp8": DIM + 4}
BANDWIDTH_BYTES = 1 << 32
SIDE = 8192
"""Of the matrices of the large product."""


@dataclass(frozen=True)
class Limits:
    """What the device does at best, a second."""

    copy: float
    """Read and written bytes of a large copy."""
    read: float
    """Bytes of a large sum."""
    product: float
    """Floating-point operations of a large bf16 product."""


@dataclass(frozen=True)
class Result:
    """One shape; ``requests`` is ``batch``, or 1 for a prompt's chunk."""

    keys: str
    heads: int
    requests: int
    batch: int
    length: int
    score_us: float
    top_k_us: float
    select_us: float
    select_gb_per_s: float
    share_of_read: float
    score_share_of_read: float
    tflops: float
    """Of the scores: products with the heads' queries only."""
    score_share_of_product: float


def seconds(calls: Sequence[Callable[[], object]]) -> float:
    """Return the median time of one call, all of them captured in one CUDA graph."""
    calls[0]()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    times = []
    for _ in range(REPLAYS):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        graph.replay()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last) / 1e3 / len(calls))
    return statistics.median(times)


def measure_limits() -> Limits:
    """Measure a large copy, a large sum and a large product."""
    source = torch.empty(BANDWIDTH_BYTES // 4, device="cuda").normal_()
    target = torch.empty_like(source)
    copy = seconds([lambda: torch.mul(source, 1.0, out=target)] * 3)
    read = seconds([source.sum] * 3)
    matrix = source[: SIDE * SIDE].view(SIDE, SIDE).bfloat16()
    product = seconds([lambda: torch.mm(matrix, matrix, out=torch.empty_like(matrix))] * 3)
    return Limits(2 * BANDWIDTH_BYTES / copy, BANDWIDTH_BYTES / read, 2 * SIDE**3 / product)


class Pool:
    """Index keys of one type for as many requests as the largest case has, and their slots."""

    def __init__(self, keys: str, slots: int) -> None:
        slots = -(-slots // PAGE) * PAGE
        if keys == "fp8":
            rows = torch.empty(slots, DIM, dtype=torch.uint8, device="cuda")
            for part in rows.split(1 << 22):  # every byte but the two NaNs
                part.copy_(torch.randint(0, 127, part.shape, dtype=torch.uint8, device="cuda"))
                part.bitwise_or_(torch.randint(0, 2, part.shape, dtype=torch.uint8, device="cuda") << 7)
            scales = torch.rand(slots, device="cuda")
            self.index = IndexKeyRows(rows.view(torch.float8_e4m3fn), scales)
        else:
            self.index = IndexKeyRows(torch.empty(slots, DIM, dtype=torch.bfloat16, device="cuda").normal_())
        pages = torch.randperm(slots // PAGE, device="cuda", dtype=torch.int32)
        place = torch.arange(PAGE, device="cuda", dtype=torch.int32)
        self.key_slots = (pages[:, None] * PAGE + place).reshape(-1)


def measure(
    pool: Pool, keys: str, heads: int, batch: int, length: int, chunk: bool, limits: Limits
) -> Result:
    """Time one shape: the scores, the top-k, and both."""
    query = torch.randn(batch, heads, DIM, device="cuda").bfloat16()
    weights = torch.randn(batch, heads, device="cuda")
    lengths = torch.full((batch,), length, dtype=torch.int32, device="cuda")
    if chunk:
        lengths = torch.arange(length - batch + 1, length + 1, dtype=torch.int32, device="cuda")
    span = length if chunk else batch * length
    sets = min(len(pool.key_slots) // span, max(1, -(-COLD_BYTES // (span * BYTES[keys]))))
    one, many = torch.zeros(1, dtype=torch.int64, device="cuda"), torch.arange(batch, device="cuda") * length
    starts = [(one + i * span).expand(batch) if chunk else many + i * span for i in range(sets)]
    repeats = -(-4 // sets)
    scores = torch.empty(batch, length, device="cuda")
    out = torch.empty(batch, TOP_K, dtype=torch.int32, device="cuda")
    given = (query, weights, pool.index, pool.key_slots)
    score = seconds([lambda s=s: score_tokens(*given, s, lengths, TOP_K, scores) for s in starts] * repeats)
    top_k = seconds([lambda: take_best(scores, lengths, out)] * 4)
    both = seconds([lambda s=s: select(*given, s, lengths, out, scores) for s in starts] * repeats)
    moved = span * BYTES[keys]
    flops = float(lengths.double().sum()) * heads * DIM * 2 / score
    return Result(
        keys=keys,
        heads=heads,
        requests=1 if chunk else batch,
        batch=batch,
        length=length,
        score_us=score * 1e6,
        top_k_us=top_k * 1e6,
        select_us=both * 1e6,
        select_gb_per_s=moved / both / 1e9,
        share_of_read=moved / both / limits.read,
        score_share_of_read=moved / score / limits.read,
        tflops=flops / 1e12,
        score_share_of_product=flops / limits.product,
    )


def print_table(results: list[Result]) -> None:
    """Print the results, a line each."""
    print(
        "keys heads  requests batch  length   score µs  top-k µs  select µs    GB/s  of read  TFLOP/s  of product"
    )
    for r in results:
        print(
            f"{r.keys:4} {r.heads:5} {r.requests:9} {r.batch:5} {r.length:7} {r.score_us:10.1f} {r.top_k_us:9.1f} "
            f"{r.select_us:10.1f} {r.select_gb_per_s:7.0f} {r.share_of_read:8.1%} {r.tflops:8.0f} {r.score_share_of_product:11.1%}"
        )


def write_report(path: Path, limits: Limits, results: list[Result]) -> None:
    """Write all that is measured so far."""
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "top_k": TOP_K,
        "dim": DIM,
        "page": PAGE,
        "limits": asdict(limits),
        "results": [asdict(result) for result in results],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    """Measure what the options name, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 64, 128, 256])
    parser.add_argument("--lengths", type=int, nargs="+", default=[131072, 32768, 8192])
    parser.add_argument("--keys", nargs="+", choices=list(BYTES), default=list(BYTES))
    parser.add_argument("--heads", type=int, nargs="+", default=[64, 32])
    parser.add_argument("--chunks", type=int, nargs="*", default=[512])
    options = parser.parse_args()
    torch.manual_seed(0)
    limits = measure_limits()
    results = []
    for keys in options.keys:
        largest = max(options.batches) * max(options.lengths)
        pool = Pool(keys, max(largest, COLD_BYTES // BYTES[keys] + max(options.lengths)))
        for heads, length in product(options.heads, options.lengths):
            cases = [(batch, False) for batch in options.batches] + [
                (chunk, True) for chunk in options.chunks
            ]
            for batch, chunk in cases:
                results.append(measure(pool, keys, heads, batch, length, chunk, limits))
            write_report(options.out, limits, results)
        del pool
    print_table(results)
    print(
        f"at best: copy {limits.copy / 1e9:.0f} GB/s, read {limits.read / 1e9:.0f} GB/s, "
        f"product {limits.product / 1e12:.0f} TFLOP/s"
    )


if __name__ == "__main__":
    main()
