"""Hierarchical against resident decode on a CUDA device, with random arrivals: bit for bit.

python -m tests.gpu.equivalence --out benchmarks/results/gpu_equivalence.json
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.engine import Engine
from hisparse_engine.loading import load
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.request import SamplingParams

NUM_REQUESTS = 12
TOP_K = 128  # the demo checkpoint's


@dataclass(frozen=True)
class Comparison:
    """What one dtype and buffer size gave."""

    dtype: str
    device_buffer_size: int
    decode_steps: int
    logits_compared: int
    logits_different: int
    tokens_equal: bool
    prefix_hit_tokens: int
    swap_in_misses: int
    verify_checks: int
    verify_mismatches: int


def run(
    model: DsaModel, mode: str, dtype: str, buffer: int
) -> tuple[Engine, list[list[int]], list[torch.Tensor]]:
    """Decode the same arrivals in ``mode``; return the engine, tokens, and every step's logits."""
    tiers = HiSparseConfig.parse(
        device_buffer_size=buffer,
        device_tokens=NUM_REQUESTS * (buffer + 1) if mode == "hierarchical" else 60_000,
        host_tokens=60_000,
    )
    config = EngineConfig.parse(
        mode=mode,
        device="cuda",
        dtype=dtype,
        hisparse=tiers,
        max_running_requests=NUM_REQUESTS,
        prefill_chunk_size=777,
        verify_every=1,
    )
    engine, logits = Engine(model, config), []
    forward = model.logits
    model.logits = lambda hidden: logits.append(forward(hidden)) or logits[-1]  # type: ignore[method-assign,func-returns-value]
    try:
        return engine, drive(engine), logits
    finally:
        del model.logits


def drive(engine: Engine) -> list[list[int]]:
    """Add requests between steps, some of them aborted on the way, until all have ended.

    Every other prompt begins with a part of one document, so that rows are shared.
    """
    dice = random.Random(7)
    document = [dice.randrange(4000) for _ in range(3000)]
    requests = []
    step = 0
    while len(requests) < NUM_REQUESTS or engine.has_work:
        if len(requests) < NUM_REQUESTS and dice.random() < 0.2:
            prompt = document[: dice.randint(100, 3000)] if dice.random() < 0.5 else []
            prompt = prompt + [dice.randrange(4000) for _ in range(dice.randint(5, 4000 - len(prompt)))]
            params = SamplingParams(dice.randint(50, 400), temperature=0.5, seed=step, ignore_eos=True)
            requests.append(engine.add_request(prompt, params))
        if requests and dice.random() < 0.005:
            engine.abort(dice.choice(requests))
        engine.step()
        step += 1
    return [request.output for request in requests]


def compare(folder: Path, dtype: str, buffer: int) -> Comparison:
    """Run both modes and count the logits rows that differ in any bit."""
    with Checkpoint.open(folder) as checkpoint:
        model = load(checkpoint, EngineConfig.parse(device="cuda", dtype=dtype))
    engine, tokens, logits = run(model, "hierarchical", dtype, buffer)
    _, expected_tokens, expected = run(model, "resident", dtype, buffer)
    swap = engine.coordinator.counters
    return Comparison(
        dtype=dtype,
        device_buffer_size=buffer,
        decode_steps=engine.totals.decode_steps,
        logits_compared=sum(len(rows) for rows in expected),
        logits_different=sum(
            int((a != b).any(dim=1).sum()) if a.shape == b.shape else len(b)
            for a, b in zip(logits, expected, strict=True)
        ),
        tokens_equal=tokens == expected_tokens,
        prefix_hit_tokens=engine.scheduler.num_prefix_hit_tokens,
        swap_in_misses=swap.misses,
        verify_checks=swap.verify_checks,
        verify_mismatches=swap.verify_mismatches,
    )


def main() -> None:
    """Compare over dtypes and buffer sizes, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as cache:
        folder = ensure_demo_checkpoint(Path(cache))
        cases = [(dtype, buffer) for dtype in ("bfloat16", "float32") for buffer in (TOP_K, 2 * TOP_K, 1000)]
        rows = [asdict(compare(folder, dtype, buffer)) for dtype, buffer in cases]
    report = {
        "check": "hierarchical equals resident on CUDA",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "rows": rows,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
