"""Decode tokens/s on the CPU: this engine and Hugging Face transformers, same checkpoint, prompts and threads.

    python benchmarks/decode_vs_transformers.py [--threads 2] [--out benchmarks/results/decode_cpu.json]

transformers' `generate` and both modes of the engine decode the same greedy continuation in one process; the tokens
must be equal. Time counts from the first new token to the last, so prefill is in nobody's figure.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.engine import Engine
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.dsa import DsaModel, load_model
from hisparse_engine.request import SamplingParams, Status

SHAPE: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "moe_intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 256,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "index_topk": 512,
    "index_head_dim": 64,
    "index_n_heads": 8,
    "max_position_embeddings": 16384,
    "initializer_range": 0.1,
    "eos_token_id": None,
    "bos_token_id": None,
}
PREFILL_CHUNK = 256


def make_checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    config = transformers.DeepseekV32Config(**SHAPE)
    transformers.DeepseekV32ForCausalLM(config).save_pretrained(folder)


def transformers_decode(model: Any, prompts: torch.Tensor, new_tokens: int) -> tuple[list[list[int]], float]:
    times: list[float] = []

    # Chunked only where transformers' index scores [batch, prompt, heads, prompt] would not fit into memory.
    batch, context = prompts.shape
    chunk = PREFILL_CHUNK if batch * context**2 * SHAPE["index_n_heads"] > 1 << 29 else None

    def note_time(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        times.append(time.perf_counter())
        return torch.zeros(len(ids), dtype=torch.bool)

    out = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=new_tokens,
        do_sample=False,
        stopping_criteria=[note_time],
        prefill_chunk_size=chunk,
        pad_token_id=0,
    )
    return out[:, prompts.shape[1] :].tolist(), times[-1] - times[0]


def engine_decode(
    model: DsaModel, prompts: torch.Tensor, new_tokens: int, mode: str
) -> tuple[list[list[int]], float]:
    batch, context = prompts.shape
    rows = batch * (context + new_tokens)
    buffer = 2 * model.config.index_topk
    tiers = HiSparseConfig.parse(
        device_buffer_size=buffer,
        device_tokens=rows if mode == "resident" else batch * (buffer + 1),
        host_tokens=rows,
    )
    config = EngineConfig.parse(
        mode=mode, hisparse=tiers, max_running_requests=batch, prefill_chunk_size=PREFILL_CHUNK
    )
    engine = Engine(model, config)
    params = SamplingParams(max_new_tokens=new_tokens, ignore_eos=True)
    requests = [engine.add_request(prompt, params) for prompt in prompts.tolist()]
    # Requests that are through their prompt wait for the others, so that the whole batch decodes together.
    while any(r.status is not Status.RUNNING for r in requests):
        hold_back(engine)
    started = time.perf_counter()
    engine.run()
    return [request.output for request in requests], time.perf_counter() - started


def hold_back(engine: Engine) -> None:
    """One step of prefill only."""
    schedule = engine.scheduler.schedule
    engine.scheduler.schedule = lambda: schedule()._replace(decode=())  # type: ignore[method-assign]
    try:
        engine.step()
        engine.scheduler.schedule()
    finally:
        del engine.scheduler.schedule


def measure(folder: Path, batch: int, context: int, new_tokens: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(batch * context)
    prompts = torch.randint(1, SHAPE["vocab_size"], (batch, context), generator=generator)
    with Checkpoint.open(folder) as checkpoint:
        ours = load_model(checkpoint, dtype=torch.float32, device=torch.device("cpu"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    runs: dict[str, Callable[[], tuple[list[list[int]], float]]] = {
        "transformers": lambda: transformers_decode(theirs, prompts, new_tokens),
        "hierarchical": lambda: engine_decode(ours, prompts, new_tokens, "hierarchical"),
        "resident": lambda: engine_decode(ours, prompts, new_tokens, "resident"),
    }
    result: dict[str, Any] = {"batch": batch, "context": context, "new_tokens": new_tokens}
    tokens = {}
    for name, run in runs.items():
        tokens[name], seconds = run()
        result[f"{name}_tokens_per_second"] = batch * (new_tokens - 1) / seconds
    result["ratio"] = result["hierarchical_tokens_per_second"] / result["transformers_tokens_per_second"]
    result["hierarchical_over_resident"] = (
        result["hierarchical_tokens_per_second"] / result["resident_tokens_per_second"]
    )
    result["tokens_equal_transformers"] = tokens["hierarchical"] == tokens["transformers"]
    result["tokens_equal_resident"] = tokens["hierarchical"] == tokens["resident"]
    return result


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=33)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--contexts", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    shapes = [(batch, context) for context in args.contexts for batch in args.batches]
    rows = []
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        make_checkpoint(Path(folder))
        for batch, context in progress.track(shapes, description="Decoding"):
            rows.append(measure(Path(folder), batch, context, args.new_tokens))
    report = {
        "benchmark": "decode_vs_transformers",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "threads": args.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "shape": SHAPE,
        "rows": rows,
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="decode, tokens/s on the CPU (fp32)")
    for heading in (
        "batch",
        "context",
        "transformers",
        "hierarchical",
        "resident",
        "ratio to transformers",
        "tokens equal",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row["batch"]),
            str(row["context"]),
            f"{row['transformers_tokens_per_second']:.1f}",
            f"{row['hierarchical_tokens_per_second']:.1f}",
            f"{row['resident_tokens_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            str(row["tokens_equal_transformers"]),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
