"""Do results depend on when copies run? Each copy beside the computation waits for a while first; logits bit for bit.

    python -m tests.gpu.late_copies             about 20 s; a copy that reads what a later graph overwrites shows at once
    python -m tests.gpu.late_copies --profile   the same under PyTorch's profiler (CUPTI), whose delays are of another kind

Without a difference and without an illegal access in both, neither our streams nor the profiler is at fault.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from hisparse_engine.config import EngineConfig
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.loading import load
from hisparse_engine.memory.host_link import CudaLink
from hisparse_engine.models.checkpoint import Checkpoint
from tests.gpu.equivalence import TOP_K, Case, Recorded

CASE = Case("auto", "bfloat16", TOP_K, 16, 0.05)
CYCLES = 2_000_000  # about a millisecond: longer than the small model's step


class SlowLink(CudaLink):
    """A link whose copies begin late."""

    def _run(self, stream: torch.cuda.Stream, copy: Callable[[], None]) -> torch.cuda.Event:
        def late() -> None:
            torch.cuda._sleep(CYCLES)
            copy()

        return super()._run(stream, late)


def check(folder: Path, *, profile: bool) -> dict[str, Any]:
    """Serve the same requests with copies in time and late; count the logits rows that differ."""
    with Checkpoint.open(folder) as checkpoint:
        model = load(checkpoint, EngineConfig.parse(device="cuda", dtype=CASE.dtype))
    in_time, late = (Recorded(model, "hierarchical", CASE) for _ in range(2))
    link = SlowLink(model.device)
    late.engine.coordinator.link = link  # type: ignore[attr-defined]
    in_time.drive(CASE)
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) if profile else nullcontext():
        late.drive(CASE)
        torch.cuda.synchronize()
    pairs = list(zip_longest(late.logits, in_time.logits, fillvalue=torch.empty(0)))
    return {
        "check": "copies may be late",
        "profiled": profile,
        "decode_steps": late.engine.totals.decode_steps,
        "swap_in_misses": late.engine.coordinator.counters.misses,
        "verify_mismatches": late.engine.coordinator.counters.verify_mismatches,
        "launches_different": sum(not torch.equal(a, b) for a, b in pairs),
        "tokens_equal": late.tokens == in_time.tokens,
    }


def main() -> None:
    """Check, and print what was found as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", action="store_true")
    with tempfile.TemporaryDirectory() as cache:
        print(json.dumps(check(ensure_demo_checkpoint(Path(cache)), profile=parser.parse_args().profile)))


if __name__ == "__main__":
    main()
