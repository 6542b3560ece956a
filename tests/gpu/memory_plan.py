"""What the plan says against what an engine on a CUDA device takes, entry by entry: device memory and the pinned host pool.

python -m tests.gpu.memory_plan --out benchmarks/results/gpu_memory_plan.json

Each case is a process of its own. Buffers are measured as the tensors that exist, activations and sampling as the
allocator's peak over what stays, and the reserve as the rest of what the driver says is used.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.decode_models import MODELS, random_model
from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.engine import Engine
from hisparse_engine.loading import load
from hisparse_engine.memory_plan import MemoryPlan
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.plan.at_start import plan_at_start
from hisparse_engine.request import SamplingParams, Status
from hisparse_engine.table_coordinator import TableHiSparseCoordinator

TOLERANCE = 0.05
LONG_PROMPT, SHORT_PROMPT = 6000, 64


@dataclass(frozen=True)
class Case:
    """One engine. ``layers`` and ``experts`` are those of a model with random weights; the demo has its own."""

    model: str
    held: int  # tokens
    running: int
    layers: int = 0
    experts: int = 0
    mode: str = "hierarchical"
    fields: dict[str, Any] = field(default_factory=dict)


FLOAT8 = {"index_key_dtype": "float8", "kv_cache_dtype": "float8"}
CASES = {
    "demo": Case("demo", 60_000, 32),
    "demo resident": Case("demo", 60_000, 32, mode="resident"),
    "glm5.2 float8": Case("glm5.2", 262_144, 32, layers=4, experts=16, fields=FLOAT8),
    "v32": Case("v32", 131_072, 64, layers=3, experts=16, fields={"prefill_chunk_size": 2048}),
    "v32 resident": Case("v32", 131_072, 64, layers=3, experts=16, mode="resident"),
}


def config_of(case: Case) -> EngineConfig:
    """Return the case's settings: hot buffers as by default, the host pool (or the device's) as large as the case says."""
    resident = case.mode == "resident"
    tiers = HiSparseConfig.parse(**{"device_tokens" if resident else "host_tokens": case.held})
    return EngineConfig.parse(
        mode=case.mode,
        device="cuda",
        dtype="bfloat16",
        max_running_requests=case.running,
        hisparse=tiers,
        **case.fields,
    )


def model_of(case: Case, config: EngineConfig) -> DsaModel:
    """Load the demo's checkpoint, or make random weights."""
    if case.model != "demo":
        return random_model(MODELS[case.model](case.layers, case.experts), torch.device("cuda"))
    with (
        tempfile.TemporaryDirectory() as cache,
        Checkpoint.open(ensure_demo_checkpoint(Path(cache))) as opened,
    ):
        return load(opened, config)


def allocated() -> int:
    """Return what PyTorch has given out, once all that can be given back is."""
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


def measure(case: Case) -> dict[str, Any]:
    """Build the case's engine, let it work, and put each entry of its plan beside what was taken for it."""
    torch.cuda.init()  # type: ignore[no-untyped-call]
    torch.zeros(1, device="cuda")
    context = device_used()
    config, before = config_of(case), allocated()
    model = model_of(case, config)
    weights = allocated() - before
    plan = plan_at_start(config, model.config)
    engine = Engine(model, config)
    prompt, sampling = peaks(engine)
    found = {"weights": weights, **buffers(engine), "results of CUDA graphs": graph_results(engine)}
    graphs = graph_memory()
    found["activations (estimate)"] = graphs - found["results of CUDA graphs"] + prompt
    found["sampling (estimate)"] = sampling
    used = device_used()
    found["reserve for CUDA"] = used - sum(found.values())
    found["host pool"] = host_bytes(engine)
    return {
        "gpu": torch.cuda.get_device_name(),
        "model": vars(case),
        "rows": list(compared(plan, found)),
        "device_planned": plan.all_device_bytes,
        "device_used": used,
        "cuda_context": context,
        "torch_allocated": allocated(),
        "torch_reserved": torch.cuda.memory_reserved(),
        "graphs_reserved": graphs,
        "prompt_chunk_peak": prompt,
    }


def compared(plan: MemoryPlan, found: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield planned and measured bytes of every entry."""
    for part in plan.all_parts():
        measured = found[part.name]
        apart = part.num_bytes / measured - 1 if measured else None
        yield {
            "name": part.name,
            "tier": part.tier,
            "planned": part.num_bytes,
            "measured": measured,
            "apart": apart,
        }


def peaks(engine: Engine) -> tuple[int, int]:
    """Return what a prompt's chunk, and the sampling of a full batch, had allocated at once beyond what stays."""
    longest = min(LONG_PROMPT, engine.coordinator.max_length // 2)  # type: ignore[attr-defined]
    engine.add_request([5] * longest, SamplingParams(600, temperature=0.7, ignore_eos=True))
    prompt = peak_over(engine, lambda: not engine.scheduler.with_status(Status.RUNNING, Status.STAGING))
    for _ in range(engine.config.max_running_requests - 1):
        engine.add_request([7] * SHORT_PROMPT, SamplingParams(600, temperature=0.7, ignore_eos=True))
    peak_over(
        engine, lambda: len(engine.scheduler.with_status(Status.RUNNING)) < engine.config.max_running_requests
    )
    steps = iter(range(5))
    return prompt, peak_over(engine, lambda: next(steps, None) is not None)


def peak_over(engine: Engine, going_on: Any) -> int:
    """Step while ``going_on()``; return the peak of what was allocated, over what was before."""
    before = allocated()
    torch.cuda.reset_peak_memory_stats()
    while going_on():
        engine.step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def buffers(engine: Engine) -> dict[str, int]:
    """Return the bytes of every tensor that exists from the start on, by the plan's entry."""
    coordinator: Any = engine.coordinator
    decoder: Any = engine.decoder
    tokens, keys = coordinator.requests.tokens, coordinator.index_keys
    found = {
        "index keys": total(keys.pool.rows, keys.scales),
        "index scores": total(decoder._scores),
    }
    requests = total(tokens.start, decoder._home, decoder._last_tokens)
    by_token = total(tokens.home, tokens.index_slots)
    if not isinstance(coordinator, TableHiSparseCoordinator):
        return found | {
            "KV rows": total(coordinator.device_pool.rows),
            "slots by token": by_token,
            "request tables": requests,
        }
    hot, rows, moves = coordinator.hot.tables, decoder._rows, coordinator._elastic._moves
    return found | {
        "hot buffers": total(coordinator.device_pool.rows),
        "residency by slot": total(hot.position_at, hot.last_use),
        "residency by token": by_token + total(hot.where),
        "request tables": requests + total(hot.buffer, hot.buffer_size, hot.now, hot.counts),
        "prompt rows of two layers": total(coordinator.scratch),
        "new rows on their way home": total(decoder._staged),
        "swap plans": total(
            rows._copies, rows._num_copies, rows._nothing, *vars(moves).values(), coordinator._elastic._groups
        ),
    }


def graph_results(engine: Engine) -> int:
    """Return the bytes of what each graph starts from and leaves."""
    runners = engine.decoder._runners.values()  # type: ignore[attr-defined]
    return sum(total(runner._inputs, *runner._result) for runner in runners)


def total(*tensors: torch.Tensor | None) -> int:
    """Return the bytes of tensors' storages."""
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors if tensor is not None)


def graph_memory() -> int:
    """Return what PyTorch keeps for CUDA graphs alone."""
    segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
    return sum(segment["total_size"] for segment in segments if tuple(segment["segment_pool_id"]) != (0, 0))


def device_used() -> int:
    """Return what the driver says is used of the device, by anybody."""
    free, there = torch.cuda.mem_get_info()
    return int(there - free)


def host_bytes(engine: Engine) -> int:
    """Return how much of the host pool's memory is really there; 0 in resident mode."""
    if not isinstance(engine.coordinator, TableHiSparseCoordinator):
        return 0
    return present_at(engine.coordinator.host_pool.rows.data_ptr())


def present_at(address: int) -> int:
    """Return the bytes of main memory behind the mapping that ``address`` is in: what is pinned cannot be missing."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            start, _, stop = first.partition("-")
            inside = int(start, 16) <= address < int(stop, 16)
        elif inside and first == "Rss:":
            return 1024 * int(rest[0])
    raise RuntimeError("nothing is mapped there")


def table(name: str, result: dict[str, Any]) -> str:
    """Return one case as text."""
    lines = [f"{name}: planned {mib(result['device_planned'])}, used {mib(result['device_used'])} MiB"]
    for row in result["rows"]:
        apart = "" if row["apart"] is None else f"{row['apart']:+8.1%}"
        lines.append(f"  {row['name']:28} {mib(row['planned']):>12} {mib(row['measured']):>12} MiB {apart}")
    others = ("cuda_context", "torch_allocated", "torch_reserved", "graphs_reserved", "prompt_chunk_peak")
    lines += [f"  ({other}: {mib(result[other])} MiB)" for other in others]
    return "\n".join(lines)


def mib(num_bytes: int) -> str:
    """Return MiB."""
    return f"{num_bytes / (1 << 20):,.3f}"


def main() -> None:
    """Measure each case in a process of its own; print tables, and write what there is so far."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", choices=CASES, action="append", help="only these")
    parser.add_argument("--here", choices=CASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(CASES[given.here])))
        return
    found = {}
    for name in given.case or CASES:
        command = [sys.executable, "-m", "tests.gpu.memory_plan", "--here", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(table(name, found[name]), flush=True)
        if given.out:
            given.out.write_text(json.dumps(about(found[name]["gpu"]) | {"cases": found}, indent=2) + "\n")


def about(gpu: str) -> dict[str, Any]:
    """Say what was measured where."""
    return {
        "check": "the memory plan against what is taken",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": gpu,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
