"""Hierarchical against resident decode on a CUDA device, with random arrivals: bit for bit.

python -m tests.gpu.equivalence --out benchmarks/results/gpu_equivalence.json
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import torch

from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.engine import Engine
from hisparse_engine.loading import load
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.request import Request, SamplingParams
from tests.support.wide_demo import wide_demo_checkpoint

NUM_RUNNING = 12
TOP_K = 128  # the demo checkpoint's


@dataclass(frozen=True)
class Case:
    """One comparison: ``kernels`` as in the engine's settings; the fast path is compared over more steps."""

    kernels: str
    dtype: str
    device_buffer_size: int
    num_requests: int
    arrivals: float  # a step
    kv_cache_dtype: str = "auto"


CASES = (
    *(Case("auto", "bfloat16", buffer, 60, 0.03) for buffer in (TOP_K, 2 * TOP_K, 1000)),
    *(Case("reference", "float32", buffer, 12, 0.2) for buffer in (TOP_K, 1000)),
    Case("auto", "bfloat16", TOP_K, 60, 0.03, "float8"),
    Case("reference", "bfloat16", TOP_K, 12, 0.2, "float8"),
)


@dataclass(frozen=True)
class Comparison:
    """What one case gave."""

    case: Case
    decoder: str
    decode_steps: int
    logits_compared: int
    logits_different: int
    tokens_equal: bool
    prefix_hit_tokens: int
    swap_in_lookups: int
    swap_in_misses: int
    evictions: int
    verify_checks: int
    verify_mismatches: int
    seconds: float


class Recorded:
    """An engine, its requests' tokens, and a fingerprint of the logits behind each of them."""

    def __init__(self, model: DsaModel, mode: str, case: Case) -> None:
        tiers = HiSparseConfig.parse(
            device_buffer_size=case.device_buffer_size,
            device_tokens=NUM_RUNNING * (case.device_buffer_size + 1) if mode == "hierarchical" else 90_000,
            host_tokens=90_000,
        )
        config = EngineConfig.parse(
            mode=mode,
            device="cuda",
            dtype=case.dtype,
            kernels=case.kernels,
            kv_cache_dtype=case.kv_cache_dtype,
            hisparse=tiers,
            max_running_requests=NUM_RUNNING,
            prefill_chunk_size=777,
            verify_every=7,
        )
        self.engine = Engine(model, config)
        self.engine.decoder.on_logits = self._record
        self.logits: list[torch.Tensor] = []
        self.tokens: list[list[int]] = []

    def _record(self, logits: torch.Tensor, requests: Sequence[Request]) -> None:
        """Keep every row's bits, summed with weights that depend on their place: 16 bytes for a row."""
        rows = logits[: len(requests)].contiguous()
        bits = rows.view(torch.int16 if rows.dtype == torch.bfloat16 else torch.int32).long()
        place = torch.arange(1, bits.shape[1] + 1, device=bits.device)
        self.logits.append(torch.stack([(bits * place).sum(1), (bits * place * place).sum(1)], dim=1))

    def drive(self, case: Case) -> None:
        """Add requests between steps, some of them aborted on the way, until all have ended.

        Every other prompt begins with a part of one document, so that rows are shared.
        """
        dice = random.Random(7)
        document = [dice.randrange(4000) for _ in range(3000)]
        requests: list[Request] = []
        step = 0
        while len(requests) < case.num_requests or self.engine.has_work:
            if len(requests) < case.num_requests and dice.random() < case.arrivals:
                prompt = document[: dice.randint(100, 3000)] if dice.random() < 0.5 else []
                prompt = prompt + [dice.randrange(4000) for _ in range(dice.randint(5, 4000 - len(prompt)))]
                params = SamplingParams(dice.randint(50, 400), temperature=0.5, seed=step, ignore_eos=True)
                requests.append(self.engine.add_request(prompt, params))
            if requests and dice.random() < 0.005:
                self.engine.abort(dice.choice(requests))
            self.engine.step()
            step += 1
        self.tokens = [request.output for request in requests]


def checkpoint_for(case: Case, cache: Path) -> Path:
    """Return the demo's checkpoint, with wider latents where rows are to be in float8."""
    return ensure_demo_checkpoint(cache) if case.kv_cache_dtype == "auto" else wide_demo_checkpoint(cache)


def compare(case: Case, cache: Path) -> Comparison:
    """Run both modes and count the logits rows that differ in any bit."""
    started = time.perf_counter()
    with Checkpoint.open(checkpoint_for(case, cache)) as checkpoint:
        model = load(checkpoint, EngineConfig.parse(device="cuda", dtype=case.dtype))
    two_tiers, resident = Recorded(model, "hierarchical", case), Recorded(model, "resident", case)
    for recorded in (two_tiers, resident):
        recorded.drive(case)
    swap = two_tiers.engine.coordinator.counters
    return Comparison(
        case=case,
        decoder=type(two_tiers.engine.decoder).__name__,
        decode_steps=two_tiers.engine.totals.decode_steps,
        logits_compared=sum(len(rows) for rows in resident.logits),
        logits_different=sum(
            int((a != b).any(dim=1).sum()) if a.shape == b.shape else len(b)
            for a, b in zip_longest(two_tiers.logits, resident.logits, fillvalue=torch.empty(0))
        ),
        tokens_equal=two_tiers.tokens == resident.tokens,
        prefix_hit_tokens=two_tiers.engine.scheduler.num_prefix_hit_tokens,
        swap_in_lookups=swap.lookups,
        swap_in_misses=swap.misses,
        evictions=swap.evictions,
        verify_checks=swap.verify_checks,
        verify_mismatches=swap.verify_mismatches,
        seconds=round(time.perf_counter() - started, 1),
    )


def report(rows: Sequence[Comparison]) -> str:
    """Return the results so far as JSON."""
    about = {
        "check": "hierarchical equals resident on CUDA",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "rows": [asdict(row) for row in rows],
    }
    return json.dumps(about, indent=2) + "\n"


def main() -> None:
    """Compare case by case; print each result and write all of them so far."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--kernels", choices=["auto", "reference"], help="only the cases of this path")
    parser.add_argument("--kv-cache-dtype", choices=["auto", "float8"], help="only the cases with such rows")
    given = parser.parse_args()
    rows: list[Comparison] = []
    with tempfile.TemporaryDirectory() as cache:
        for case in CASES:
            if given.kernels in (None, case.kernels) and given.kv_cache_dtype in (None, case.kv_cache_dtype):
                rows.append(compare(case, Path(cache)))
                print(rows[-1], flush=True)
                if given.out:
                    given.out.write_text(report(rows))


if __name__ == "__main__":
    main()
