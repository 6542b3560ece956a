"""Tiny DSA models for tests: checkpoints written by transformers, models made in memory, and an engine that remembers.

``write_checkpoint`` is for comparisons with transformers; ``tiny_model`` needs no file and no transformers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.decoding.backend import MakeBackend, eager_backend, table_backend
from hisparse_engine.engine import Engine
from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.dsa import DsaModel, load_model
from hisparse_engine.models.hf_config import parse_config
from hisparse_engine.models.weights import WeightReader
from hisparse_engine.ops import reference
from hisparse_engine.request import Request

VOCABULARY = 256
TOP_K = 16
TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 48,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "index_topk": TOP_K,
    "index_head_dim": 32,
    "index_n_heads": 16,
    "max_position_embeddings": 512,
}
"""Keys of a ``config.json``, fit for both architectures."""


def write_checkpoint(
    folder: Path, architecture: str, *, seed: int = 0, sharded: bool = False, **keys: Any
) -> Path:
    """Let transformers write a checkpoint with random weights whose logits are well apart."""
    import transformers

    torch.manual_seed(seed)
    model_class = getattr(transformers, architecture)
    config = model_class.config_class(**TINY | {"initializer_range": 0.2} | keys)
    model = model_class(config)
    with torch.no_grad():  # biases are born 0 and norms 1: neither would show that it was forgotten
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "norm" in name or "bias" in name:
                tensor += 0.1 * torch.randn_like(tensor)
    model.save_pretrained(folder, max_shard_size="100KB" if sharded else "1GB")
    return folder


def edit_config(folder: Path, *, remove: Sequence[str] = (), **keys: Any) -> Path:
    """Change keys of ``folder``'s config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if k not in remove} | keys))
    return folder


def load(folder: Path, dtype: torch.dtype = torch.float32) -> DsaModel:
    """Load a checkpoint folder on the CPU."""
    with Checkpoint.open(folder) as checkpoint:
        return load_model(checkpoint, dtype=dtype, device=torch.device("cpu"))


def tiny_config(architecture: str = "GlmMoeDsaForCausalLM", **keys: Any) -> ModelConfig:
    """Return the model config of ``TINY`` with some keys changed."""
    return parse_config({"architectures": [architecture], **TINY, **keys}, Path("config.json"))


def tiny_model(*, seed: int = 0, dtype: torch.dtype = torch.float32, **keys: Any) -> DsaModel:
    """Return a model with random weights that no file ever held."""
    weights = RandomWeights(torch.Generator().manual_seed(seed), dtype)
    return DsaModel(cast(WeightReader, weights), tiny_config(**keys))


class RandomWeights:
    """Takes the place of a ``WeightReader``: every tensor exists and is random."""

    device = torch.device("cpu")

    def __init__(self, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> None:
        self._generator, self.dtype = generator, dtype

    def at(self, _prefix: str) -> RandomWeights:
        return self

    def read(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        return (base + 0.2 * torch.randn(shape, generator=self._generator)).to(dtype or self.dtype)

    def read_optional(self, name: str, *shape: int, wanted: bool) -> torch.Tensor | None:
        return self.read(name, *shape) if wanted else None

    def read_into(self, out: torch.Tensor, name: str) -> None:
        out.copy_(self.read(name, *out.shape))

    def empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self.dtype)


class RecordingEngine(Engine):
    """An engine that keeps the logits of every token it chose: ``recorded[request id]``, one row a token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recorded: dict[int, list[torch.Tensor]] = {}
        self.decoder.on_logits = self._record

    def _record(self, logits: torch.Tensor, requests: Sequence[Request]) -> None:
        for request, row in zip(requests, logits, strict=False):  # a bucket may be larger than its batch
            self.recorded.setdefault(request.id, []).append(row.clone())

    def logits_of(self, request: Request) -> torch.Tensor:
        """Return ``[tokens, vocab]`` of a request."""
        return torch.stack(self.recorded[request.id])


BACKENDS: dict[str, MakeBackend] = {
    "eager": eager_backend,
    "tables": partial(table_backend, ops=reference),
}
"""Both ways of decoding; the one over tables, made for CUDA graphs, runs uncaptured on the reference operations."""


def engine_config(*, hisparse: dict[str, Any] | None = None, **fields: Any) -> EngineConfig:
    """Return a config that audits after every step."""
    return EngineConfig.parse(
        **{"audit_every": 1, "hisparse": HiSparseConfig.parse(**hisparse or {}), **fields}
    )


def random_prompt(length: int, seed: int) -> list[int]:
    """Return ``length`` token ids."""
    tokens: list[int] = torch.randint(
        0, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)
    ).tolist()
    return tokens
