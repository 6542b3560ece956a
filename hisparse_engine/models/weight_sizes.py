"""How many bytes a model's weights take on the device, without loading one: from shapes, or from safetensors headers.

Every float tensor is loaded in the engine's dtype (block-scaled fp8 is dequantised), but for those that the model reads
as fp32. Scales and multi-token-prediction layers are not loaded. Needs no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.safetensors_headers import has_weights, read_shapes

_ITEM_BYTES = {"float32": 4, "bfloat16": 2}
_FP32 = 4


class Tensor(NamedTuple):
    """One tensor that the model reads. ``kind`` says what it is for; ``wide`` ones stay fp32."""

    name: str
    shape: tuple[int, ...]
    kind: str
    wide: bool = False

    def num_bytes(self, dtype: str) -> int:
        """Return what it takes on the device."""
        return prod(self.shape) * (_FP32 if self.wide else _ITEM_BYTES[dtype])


class Weights(NamedTuple):
    """Bytes of all weights on the device, and by kind; ``source`` says where the shapes come from."""

    num_bytes: int
    source: str
    by_kind: Mapping[str, int]


def weigh(folder: Path, config: ModelConfig, dtype: str) -> Weights:
    """Weigh a checkpoint by its headers; by ``config`` alone where the folder has no weights.

    :class:`CheckpointError` when a header cannot be read, or a tensor is missing or has another shape.
    """
    if not has_weights(folder):
        return weigh_config(config, dtype)
    found = read_shapes(folder)
    for tensor in tensors(config):
        if tensor.name not in found:
            raise CheckpointError(
                f"{folder}: tensor {tensor.name!r} is missing; use a complete checkpoint of this architecture"
            )
        if found[tensor.name] != tensor.shape:
            raise CheckpointError(
                f"{folder}: tensor {tensor.name!r}: got shape {list(found[tensor.name])}, expected "
                f"{list(tensor.shape)}; use the config.json and the weights of one release"
            )
    return _weigh(config, dtype, "safetensors headers")


def weigh_config(config: ModelConfig, dtype: str) -> Weights:
    """Weigh the model that ``config`` describes."""
    return _weigh(config, dtype, "shapes in config.json")


def _weigh(config: ModelConfig, dtype: str, source: str) -> Weights:
    kinds: Counter[str] = Counter()
    for tensor in tensors(config):
        kinds[tensor.kind] += tensor.num_bytes(dtype)
    return Weights(kinds.total(), source, dict(kinds))


def tensors(config: ModelConfig) -> Iterator[Tensor]:
    """Yield every tensor that ``DsaModel`` reads, as a checkpoint names it."""
    hidden, vocabulary = config.hidden_size, config.vocab_size
    yield Tensor("model.embed_tokens.weight", (vocabulary, hidden), "embedding and head")
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        for part in _layer(config, layer):
            yield part._replace(name=prefix + part.name)
    yield Tensor("model.norm.weight", (hidden,), "norms")
    if not config.tie_word_embeddings:
        yield Tensor("lm_head.weight", (vocabulary, hidden), "embedding and head")


def _layer(config: ModelConfig, layer: int) -> Iterator[Tensor]:
    yield Tensor("input_layernorm.weight", (config.hidden_size,), "norms")
    yield from _attention(config)
    if config.runs_indexer(layer):
        yield from _indexer(config)
    yield Tensor("post_attention_layernorm.weight", (config.hidden_size,), "norms")
    if config.is_sparse_mlp(layer):
        yield from _experts(config)
    else:
        yield from _mlp("mlp.", config.hidden_size, config.intermediate_size, "dense MLP")


def _attention(c: ModelConfig) -> Iterator[Tensor]:
    per_head = c.qk_nope_head_dim + c.v_head_dim
    shapes = {
        "q_a_proj.weight": (c.q_lora_rank, c.hidden_size),
        "q_a_layernorm.weight": (c.q_lora_rank,),
        "q_b_proj.weight": (c.num_attention_heads * c.qk_head_dim, c.q_lora_rank),
        "kv_a_proj_with_mqa.weight": (c.kv_row_dim, c.hidden_size),
        "kv_a_layernorm.weight": (c.kv_lora_rank,),
        "kv_b_proj.weight": (c.num_attention_heads * per_head, c.kv_lora_rank),
        "o_proj.weight": (c.hidden_size, c.num_attention_heads * c.v_head_dim),
    }
    if c.attention_bias:
        shapes |= {
            "q_a_proj.bias": (c.q_lora_rank,),
            "kv_a_proj_with_mqa.bias": (c.kv_row_dim,),
            "o_proj.bias": (c.hidden_size,),
        }
    yield from (Tensor(f"self_attn.{name}", shape, "attention") for name, shape in shapes.items())


def _indexer(c: ModelConfig) -> Iterator[Tensor]:
    shapes = {
        "wq_b.weight": (c.index_n_heads * c.index_head_dim, c.q_lora_rank),
        "wk.weight": (c.index_head_dim, c.hidden_size),
        "k_norm.weight": (c.index_head_dim,),
        "k_norm.bias": (c.index_head_dim,),
        "weights_proj.weight": (c.index_n_heads, c.hidden_size),
    }
    for name, shape in shapes.items():
        yield Tensor(f"self_attn.indexer.{name}", shape, "indexer", wide=name.startswith("weights_proj"))


def _experts(c: ModelConfig) -> Iterator[Tensor]:
    yield Tensor("mlp.gate.weight", (c.n_routed_experts, c.hidden_size), "experts", wide=True)
    yield Tensor("mlp.gate.e_score_correction_bias", (c.n_routed_experts,), "experts", wide=True)
    shared = c.moe_intermediate_size * c.n_shared_experts
    yield from _mlp("mlp.shared_experts.", c.hidden_size, shared, "experts")
    for expert in range(c.n_routed_experts):
        yield from _mlp(f"mlp.experts.{expert}.", c.hidden_size, c.moe_intermediate_size, "experts")


def _mlp(prefix: str, hidden: int, width: int, kind: str) -> Iterator[Tensor]:
    yield Tensor(f"{prefix}gate_proj.weight", (width, hidden), kind)
    yield Tensor(f"{prefix}up_proj.weight", (width, hidden), kind)
    yield Tensor(f"{prefix}down_proj.weight", (hidden, width), kind)
