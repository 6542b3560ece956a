"""Model configs with the released attention shapes of DeepSeek-V3.2 and GLM-5, and as many layers and experts as fit."""

from __future__ import annotations

from pathlib import Path

from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.hf_config import parse_config

_YARN = {
    "rope_type": "yarn",
    "factor": 40.0,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}


def deepseek_v32_config(
    num_layers: int, n_routed_experts: int = 256, *, first_dense: int = 3, vocab_size: int = 129_280
) -> ModelConfig:
    """DeepSeek-V3.2: 128 heads, an indexer in every layer, experts in 8 groups; ``first_dense`` layers have none."""
    return _config(
        "DeepseekV32ForCausalLM",
        num_layers,
        n_routed_experts,
        first_dense,
        vocab_size,
        {"rope_scaling": _YARN, "rope_theta": 10_000},
    )


def glm5_config(
    num_layers: int,
    n_routed_experts: int = 256,
    *,
    first_dense: int = 3,
    vocab_size: int = 154_880,
    indexer_every: int = 1,
) -> ModelConfig:
    """GLM-5: 64 heads of 192 + 64 and 256; of ``indexer_every`` layers one runs its own indexer."""
    keys = {"rope_theta": 1_000_000, "index_topk_freq": indexer_every, "index_skip_topk_offset": 2}
    return _config("GlmMoeDsaForCausalLM", num_layers, n_routed_experts, first_dense, vocab_size, keys)


def _config(
    architecture: str,
    num_layers: int,
    n_routed_experts: int,
    first_dense: int,
    vocab_size: int,
    keys: dict[str, object],
) -> ModelConfig:
    counts: dict[str, object] = {
        "architectures": [architecture],
        "num_hidden_layers": num_layers,
        "n_routed_experts": n_routed_experts,
        "first_k_dense_replace": first_dense,
        "vocab_size": vocab_size,
        "dtype": "bfloat16",
    }
    return parse_config(counts | keys, Path("config.json"))
