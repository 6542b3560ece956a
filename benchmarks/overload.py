"""Ten times more work than fits: goodput of both admission policies, and that every request ends.

    python benchmarks/overload.py [--factor 10] [--seed 0]

The demo's model on one CPU thread; prompts of real text. The pools are sized for ``1 / factor`` of the requests' worst
case. Requests may generate far more than they do (a random length plays the end-of-sequence token), which is
what real clients ask for and what makes the worst case a bad guess. Goodput is tokens of finished requests, a second of CPU
(other programs on the machine do not count) and a step (on a GPU a step's time depends little on its batch).
The result goes to results/overload.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

import torch  # noqa: E402 - the path comes first

from hisparse_engine.config import EngineConfig, HiSparseConfig  # noqa: E402
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint  # noqa: E402
from hisparse_engine.demo.texts import prompts  # noqa: E402
from hisparse_engine.engine import Engine  # noqa: E402
from hisparse_engine.errors import CapacityError  # noqa: E402
from hisparse_engine.loading import load  # noqa: E402
from hisparse_engine.models.checkpoint import Checkpoint  # noqa: E402
from hisparse_engine.request import Outcome, Request, SamplingParams  # noqa: E402
from hisparse_engine.tokenizer import Tokenizer  # noqa: E402

RESULT = ROOT / "benchmarks/results/overload.json"
REQUESTS = 60
PROMPT_TOKENS = 300
MAX_NEW_TOKENS = 400
"""What every request may generate; it ends after a tenth of that on average."""


class EndingEngine(Engine):
    """Requests end at lengths that only it knows, as if the model had said its end-of-sequence token."""

    ends: dict[int, int]

    def _outcome(self, request: Request, token: int) -> Outcome | None:
        return (
            Outcome.STOP if len(request.output) >= self.ends[request.id] else super()._outcome(request, token)
        )


def workload(tokenizer: Tokenizer, seed: int) -> list[tuple[list[int], int]]:
    """Return prompts and the lengths at which their answers end."""
    source, chance = prompts(tokenizer.encode, PROMPT_TOKENS), random.Random(seed)
    lengths = [min(MAX_NEW_TOKENS, 1 + int(chance.expovariate(10 / MAX_NEW_TOKENS))) for _ in range(REQUESTS)]
    return [(next(source)[: chance.randint(100, PROMPT_TOKENS)], length) for length in lengths]


def run(folder: Path, policy: str, factor: float, seed: int) -> dict[str, Any]:
    """Send everything at once and step until all have ended."""
    tokenizer = Tokenizer.open(folder)
    work = workload(tokenizer, seed)
    worst = sum(len(prompt) + MAX_NEW_TOKENS for prompt, _ in work)
    tiers = HiSparseConfig.parse(host_tokens=int(worst / factor), device_buffer_size=150)
    config = EngineConfig.parse(
        hisparse=tiers, max_running_requests=REQUESTS, reserve=policy, prefix_reuse=True
    )
    with Checkpoint.open(folder) as checkpoint:
        engine = EndingEngine(load(checkpoint, config), config)
    engine.ends = {}
    began, refused, ended = time.process_time(), 0, []
    for prompt, length in work:
        try:
            ended.append(engine.add_request(prompt, SamplingParams(MAX_NEW_TOKENS, ignore_eos=True)))
            engine.ends[ended[-1].id] = length
        except CapacityError:
            refused += 1
    batch, usage = [], []
    while engine.has_work:
        engine.step()
        levels = engine.levels()
        batch.append(levels.running_requests)
        usage.append(levels.host_tokens / levels.host_token_capacity)
    spent = time.process_time() - began
    assert all(request.outcome in (Outcome.STOP, Outcome.LENGTH) for request in ended)
    levels = engine.levels()
    assert (
        levels.host_tokens == levels.device_tokens == levels.index_tokens == levels.host_tokens_reserved == 0
    )
    tokens = sum(len(request.output) for request in ended)
    return {
        "requests": len(ended), "refused": refused, "tokens": tokens, "cpu_s": round(spent, 2),
        "goodput_tokens_per_cpu_s": round(tokens / spent, 1),
        "goodput_tokens_per_step": round(tokens / len(batch), 2), "retractions": engine.scheduler.num_retractions,
        "mean_running": round(sum(batch) / len(batch), 1), "mean_host_usage": round(sum(usage) / len(usage), 3),
        "peak_host_usage": round(max(usage), 3), "steps": len(batch),
    }  # fmt: skip


def main() -> None:
    """Run both policies on the same work and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--factor", type=float, default=10.0, help="how many times more work than fits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = ensure_demo_checkpoint()
    policies = {
        policy: run(folder, policy, options.factor, options.seed) for policy in ("worst-case", "quantile")
    }
    result = {
        "date": datetime.now(UTC).isoformat(), "cores": os.cpu_count(), "machine": platform.machine(),
        "load_average": os.getloadavg(), "torch": version("torch"), "factor": options.factor, "policies": policies,
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for policy, figures in policies.items():
        print(f"{policy:10}  {figures}")


if __name__ == "__main__":
    main()
