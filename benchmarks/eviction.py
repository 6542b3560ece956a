"""How many rows a hot buffer misses under different replacement policies, against the optimum that knows the future.

    python benchmarks/eviction.py                 writes results/eviction.json and docs/images/perf-eviction.png
    python benchmarks/eviction.py --calibrate     writes results/eviction_calibration.json: knob → misses a step

Traces: the locality model that drives `decode.py` (top-k 2048), a window that slides over a random order (the workload
of `swap_in.py`, where nothing but the future helps), and real text through the engine's own indexer (the demo's model:
real text, but weights that nobody trained, so its selections change far more than a trained model's). Buffers have one
seat more than their size, for the newest row. The first half of every trace only fills the buffer.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

import numpy as np  # noqa: E402 - the path comes first
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.decode_locality import Locality  # noqa: E402
from benchmarks.eviction_picture import save_picture  # noqa: E402
from benchmarks.eviction_policies import (  # noqa: E402
    Belady,
    BinnedLru,
    Clock,
    ExactLru,
    Fifo,
    Policy,
    Random,
    Trace,
    count_misses,
)
from benchmarks.eviction_traces import demo_model, from_model, recorded, sliding, stretches  # noqa: E402

RESULTS = Path(__file__).parent / "results"
PICTURE = ROOT / "docs" / "images" / "perf-eviction.png"
FACTORS = (1.0, 1.5, 2.0, 3.0)
POLICIES: dict[str, Callable[[int, Trace], Policy]] = {
    "exact LRU": lambda seats, _: ExactLru(seats),
    "binned LRU": lambda seats, _: BinnedLru(seats),
    "coarse bins": lambda seats, _: BinnedLru(seats, exact=32, parts=2),
    "CLOCK": lambda seats, _: Clock(seats),
    "FIFO ring": lambda seats, _: Fifo(seats),
    "random": lambda seats, _: Random(seats),
    "optimum": Belady,
}
TURNOVERS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6)


def synthetic(steps: int) -> Iterator[tuple[str, Trace]]:
    """Yield what the locality model and the sliding window select."""
    for turnover in (0.02, 0.1, 0.4):
        yield f"32k, turnover {turnover:g}", from_model(Locality(turnover=turnover), 32_768, steps)
    # Rows that go were last used hundreds of steps ago: here the bins are coarse.
    yield "32k, turnover 0.005", from_model(Locality(turnover=0.005), 32_768, 4 * steps)
    yield "128k, turnover 0.1", from_model(Locality(turnover=0.1), 131_072, steps)
    yield "32k, no favourites", from_model(Locality(turnover=0.05, skew=1), 32_768, steps)
    yield "32k, sliding by 64", sliding(2048, 32_768, steps, 64)


def real(length: int) -> Iterator[tuple[str, Trace]]:
    """Yield what the demo model's indexers select on real text, from a quarter of it on."""
    for top_k in (128, 512):
        model, tokenizer = demo_model(top_k)
        for name, tokens in stretches(tokenizer, length).items():
            for layer, trace in recorded(model, tokens, length // 4):
                yield f"{name}, layer {layer}, top-k {top_k}", trace


def measure(trace: Trace) -> list[dict[str, Any]]:
    """Return misses a step of every policy and buffer."""
    rows = []
    for factor in FACTORS:
        size = int(factor * trace.top_k)
        for name, make in POLICIES.items():
            misses = count_misses(trace, size + 1, make(size + 1, trace))
            settled = misses[len(misses) // 2 :]
            rows.append(
                {"buffer": size, "factor": factor, "policy": name, "misses": round(float(settled.mean()), 3)}
            )
    return rows


def changed(trace: Trace) -> float:
    """Return how many positions a step selects that the step before did not."""
    pairs = zip(trace.selected[1:], trace.selected[:-1], strict=True)
    return float(np.mean([len(np.setdiff1d(now, before)) for now, before in pairs]))


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every trace; says on stderr which one it is at."""
    kinds = {"synthetic": synthetic(options.steps), "real text": real(options.text_tokens)}
    traces = []
    for kind, found in kinds.items():
        for name, trace in found:
            started = time.monotonic()
            entry = {"name": name, "kind": kind, "top_k": trace.top_k, "steps": len(trace.selected)}
            traces.append(entry | {"changed": round(changed(trace), 2), "results": measure(trace)})
            print(f"{kind}: {name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    return {"traces": traces}


def calibrate(options: argparse.Namespace) -> dict[str, Any]:
    """Return misses a step of exact LRU for every turnover, context and buffer."""
    rows = []
    for context in (8192, 32_768, 131_072):
        for turnover in TURNOVERS:
            trace = from_model(Locality(turnover=turnover), context, options.steps)
            for buffer in (4096, 6144):
                misses = count_misses(trace, buffer + 1, ExactLru(buffer + 1))
                mean = round(float(misses[len(misses) // 2 :].mean()), 3)
                rows.append({"context": context, "turnover": turnover, "buffer": buffer, "misses": mean})
    model = Locality()
    return {"top_k": model.top_k, "window": model.window, "skew": model.skew, "rows": rows}


def show(report: dict[str, Any]) -> None:
    """Print a table for each trace: misses a step."""
    for trace in report["traces"]:
        table = Table(title=f"{trace['kind']}: {trace['name']} ({trace['changed']:.0f} change a step)")
        for heading in ("buffer", *POLICIES):
            table.add_column(heading, justify="right")
        for factor in FACTORS:
            cells = {row["policy"]: row for row in trace["results"] if row["factor"] == factor}
            table.add_row(f"{factor:g} × top-k", *(f"{cells[name]['misses']:.1f}" for name in POLICIES))
        Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1200, help="of a synthetic trace")
    parser.add_argument("--text-tokens", type=int, default=6144, help="of a real trace")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    if options.calibrate:
        report = {"benchmark": "eviction_calibration", **about, **calibrate(options)}
    else:
        report = {"benchmark": "eviction", **about, **study(options)}
    out = options.out or RESULTS / f"{report['benchmark']}.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    if not options.calibrate:
        show(report)
        save_picture(report, PICTURE)


if __name__ == "__main__":
    main()
