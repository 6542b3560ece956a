"""The CUDA path's logits against Hugging Face transformers' on the same GPU, along the tokens that the engine chose.

python -m tests.gpu.against_transformers --out benchmarks/results/gpu_against_transformers.json

The engine decodes in bf16 with its kernels, in both modes, and with KV rows in float8; transformers then computes the
logits of the same tokens at once, in fp32 (the yardstick) and in bf16 (what rounding alone costs). Prompts are short of
the top-k and long past it. Rows in float8 need wider latents than the demo's: those rows are of another checkpoint.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from hisparse_engine.demo.texts import corpus
from hisparse_engine.engine import Engine
from hisparse_engine.loading import load
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.request import Request, SamplingParams
from hisparse_engine.tokenizer import Tokenizer
from tests.support.wide_demo import wide_demo_checkpoint

PROMPT_LENGTHS = (60, 500, 1500, 3500)
NEW_TOKENS = 64
TOP_K = 128  # the demo checkpoint's


class Decoded:
    """What the engine chose, and the logits behind each token."""

    def __init__(
        self, model: DsaModel, mode: str, kv_cache_dtype: str, prompts: Sequence[Sequence[int]]
    ) -> None:
        held = sum(len(prompt) + NEW_TOKENS for prompt in prompts)
        tiers = HiSparseConfig.parse(
            device_buffer_size=TOP_K,
            device_tokens=len(prompts) * (TOP_K + 1) if mode == "hierarchical" else held,
            host_tokens=held,
        )
        config = EngineConfig.parse(
            mode=mode,
            device="cuda",
            kv_cache_dtype=kv_cache_dtype,
            hisparse=tiers,
            max_running_requests=len(prompts),
        )
        engine = Engine(model, config)
        self.decoder = type(engine.decoder).__name__
        self._rows: dict[int, list[torch.Tensor]] = {}
        engine.decoder.on_logits = self._record
        params = SamplingParams(NEW_TOKENS, ignore_eos=True)
        requests = [engine.add_request(prompt, params) for prompt in prompts]
        engine.run()
        self.tokens = [request.output for request in requests]
        self.logits = [torch.stack(self._rows[request.id]) for request in requests]
        self.misses = engine.coordinator.counters.misses

    def _record(self, logits: torch.Tensor, requests: Sequence[Request]) -> None:
        for row, request in zip(logits, requests, strict=False):
            self._rows.setdefault(request.id, []).append(row.float().clone())


def expected(folder: Path, dtype: torch.dtype, sequences: Sequence[list[int]]) -> list[torch.Tensor]:
    """Return transformers' fp32 logits ``[NEW_TOKENS, vocab]`` of each sequence's last tokens."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model = model.to("cuda").eval()
    found = []
    with torch.inference_mode():
        for tokens in sequences:
            logits = model(torch.tensor([tokens[:-1]], device="cuda"), use_cache=False).logits[0]
            found.append(logits[-NEW_TOKENS:].float())
    return found


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> dict[str, float]:
    """Return the relative error of logits (norms, rows centred), and how often the likeliest token is the same."""
    ours, theirs = (x - x.mean(dim=-1, keepdim=True) for x in (ours, theirs))
    return {
        "relative_error": float((ours - theirs).norm() / theirs.norm()),
        "same_best": float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()),
    }


def rows(folder: Path, kv_cache_dtype: str = "auto") -> list[dict[str, Any]]:
    """Compare every prompt length in both modes."""
    tokens = Tokenizer.open(folder).encode(corpus()[:60_000])
    prompts = [tokens[length : 2 * length] for length in PROMPT_LENGTHS]
    with Checkpoint.open(folder) as checkpoint:
        model = load(checkpoint, EngineConfig.parse(device="cuda"))
    found = []
    for mode in ("hierarchical", "resident"):
        ours = Decoded(model, mode, kv_cache_dtype, prompts)
        sequences = [[*prompt, *output] for prompt, output in zip(prompts, ours.tokens, strict=True)]
        exact, rounded = (expected(folder, dtype, sequences) for dtype in (torch.float32, torch.bfloat16))
        for length, here, there, bf16 in zip(PROMPT_LENGTHS, ours.logits, exact, rounded, strict=True):
            found.append(
                {
                    "mode": mode,
                    "kv_cache_dtype": kv_cache_dtype,
                    "decoder": ours.decoder,
                    "prompt_tokens": length,
                    "swap_in_misses": ours.misses,
                    "ours_bf16": difference(here, there),
                    "transformers_bf16": difference(bf16, there),
                }
            )
    return found


def main() -> None:
    """Compare, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as cache:
        found = rows(ensure_demo_checkpoint(Path(cache)))
        found += rows(wide_demo_checkpoint(Path(cache)))
        found += rows(wide_demo_checkpoint(Path(cache)), "float8")
    report = {
        "check": "logits of the CUDA path against transformers in fp32",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "rows": found,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
