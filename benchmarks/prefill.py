"""Prefill on a GPU: prompts longer than the device pool, their rows streamed to the host, beside resident mode.

    python -m benchmarks.prefill [--contexts 8192 32768 131072] [--out benchmarks/results/prefill.json]

The engine itself on a model with a released model's attention shapes and random weights (as `decode.py` makes it); one
prompt at a time, until its first token is there. In hierarchical mode the device pool has room for the smallest hot
buffer only. The tokens that both modes generate are compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

import torch

from benchmarks.decode_models import MODELS, random_model
from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.engine import Engine
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.request import SamplingParams

RESULT = Path(__file__).parent / "results" / "prefill.json"
BUFFER = 4096
NEW_TOKENS = 16
MODES: tuple[Literal["resident", "hierarchical"], ...] = ("resident", "hierarchical")


@dataclass(frozen=True)
class Prefill:
    """One prompt in one mode."""

    mode: str
    context: int
    device_tokens: int
    seconds: float
    """From the request to its first token, the faster of two prompts."""
    tokens_per_second: float
    host_to_device_gb: float
    device_to_host_gb: float
    tokens: list[int]
    """What was generated after the first prompt."""


def make_engine(model: DsaModel, mode: str, context: int, chunk: int) -> Engine:
    """Return an engine with room for one request, its device pool no larger than the mode needs."""
    whole = context + NEW_TOKENS
    hierarchical = mode == "hierarchical"
    tiers = HiSparseConfig.parse(
        device_buffer_size=BUFFER,
        device_tokens=BUFFER + 1 if hierarchical else whole,
        host_tokens=whole if hierarchical else None,
        index_tokens=whole,
    )
    config = EngineConfig.parse(
        mode=mode,
        device="cuda",
        dtype="bfloat16",
        max_running_requests=1,
        prefill_chunk_size=chunk,
        prefix_reuse=False,
        audit_every=0,
        hisparse=tiers,
    )
    return Engine(model, config)


def serve(engine: Engine, prompt: tuple[int, ...]) -> tuple[float, list[int]]:
    """Run one request to its end; return the seconds until its first token, and its tokens."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    request = engine.add_request(prompt, SamplingParams(max_new_tokens=NEW_TOKENS, ignore_eos=True))
    while not request.output:
        engine.step()
    seconds = time.perf_counter() - started
    engine.run()
    return seconds, list(request.output)


def measure(model: DsaModel, mode: str, context: int, chunk: int) -> Prefill:
    """Prefill two prompts of ``context`` tokens after a short one that compiles what is to be compiled."""
    engine = make_engine(model, mode, context, chunk)
    numbers = torch.Generator().manual_seed(context)
    prompts = torch.randint(model.config.vocab_size, (2, context), generator=numbers).tolist()
    serve(engine, tuple(prompts[0][: min(context, 2 * chunk)]))
    before = engine.coordinator.counters
    moved = [-before.host_to_device_bytes, -before.device_to_host_bytes]
    served = [serve(engine, tuple(prompt)) for prompt in prompts]
    after = engine.coordinator.counters
    moved[0] += after.host_to_device_bytes
    moved[1] += after.device_to_host_bytes
    seconds = min(seconds for seconds, _ in served)
    return Prefill(
        mode,
        context,
        engine.sizes.device_tokens,
        round(seconds, 4),
        round(context / seconds, 1),
        *(round(count / 2 / 1e9, 2) for count in moved),
        tokens=served[0][1],
    )


def run(options: argparse.Namespace) -> Iterator[Prefill]:
    """Measure every context in both modes."""
    model = cast(
        DsaModel, random_model(MODELS[options.model](options.layers, options.experts), torch.device("cuda"))
    )
    for context in options.contexts:
        config = {"max_position_embeddings": context + NEW_TOKENS}
        model.config = model.config.model_copy(update=config)
        for mode in MODES:
            yield measure(model, mode, context, options.chunk)
            gc.collect()
            torch.cuda.empty_cache()


def report(options: argparse.Namespace, rows: list[Prefill]) -> str:
    """Return the results so far as JSON."""
    about = {
        "model": options.model,
        "layers": options.layers,
        "experts": options.experts,
        "chunk": options.chunk,
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [asdict(row) for row in rows],
    }
    return json.dumps(about, indent=1) + "\n"


def main() -> None:
    """Measure, print each result as it comes, and write all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="glm5.2")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--experts", type=int, default=32, help="a layer")
    parser.add_argument("--contexts", type=int, nargs="+", default=[8192, 32_768, 131_072])
    parser.add_argument("--chunk", type=int, default=2048, help="tokens of a prompt computed at a time")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("prefill.py measures on a CUDA device, and there is none")
    rows = []
    for row in run(options):
        rows.append(row)
        print(row, flush=True)
        options.out.write_text(report(options, rows))
    for ours, theirs in zip(rows[1::2], rows[::2], strict=True):
        print(
            f"{ours.context}: hierarchical {theirs.seconds / ours.seconds:.2f} times as fast as resident, "
            f"tokens {'equal' if ours.tokens == theirs.tokens else 'DIFFER'}"
        )


if __name__ == "__main__":
    main()
