"""How many bytes a model's weights take on the device, without loading one: from shapes, or from safetensors headers.

Every tensor is loaded in the engine's dtype (block-scaled fp8 is dequantised), but for a few that the model reads as
fp32. The decoder for bf16 on CUDA (``cuda_dsa``) keeps fp32 matrices as up to three bf16 ones. Scales and
multi-token-prediction layers are not loaded. Needs no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from math import prod
from pathlib import Path
from typing import NamedTuple

from hisparse_engine.errors import CheckpointError
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.safetensors_headers import Header, has_weights, read_headers

_ITEM_BYTES = {"float32": 4, "bfloat16": 2}
_BF16, _FP32, _BF16_PARTS = 2, 4, 3
_STORED_AS_BF16 = {"BF16", "bfloat16"}


class Form(Enum):
    """In which dtype a tensor is kept."""

    PLAIN = auto()  # the engine's
    WIDE = auto()  # fp32
    WIDE_IF_FUSED = auto()  # the engine's, but fp32 in cuda_dsa
    SPLIT_IF_FUSED = auto()  # fp32, but in cuda_dsa as many bf16 parts as it takes: one where bf16 was stored


class Tensor(NamedTuple):
    """One tensor that the model reads. ``kind`` says what it is for."""

    name: str
    shape: tuple[int, ...]
    kind: str
    form: Form = Form.PLAIN

    def num_bytes(self, dtype: str, stored: str, *, fused: bool) -> int:
        """Return what it takes on the device, at most; ``stored``: the checkpoint's dtype."""
        match self.form:
            case Form.SPLIT_IF_FUSED if fused:
                item = _BF16 if stored in _STORED_AS_BF16 else _BF16_PARTS * _BF16
            case Form.WIDE | Form.SPLIT_IF_FUSED:
                item = _FP32
            case Form.WIDE_IF_FUSED if fused:
                item = _FP32
            case _:
                item = _ITEM_BYTES[dtype]
        return prod(self.shape) * item


class Weights(NamedTuple):
    """Bytes of all weights on the device, and by kind; ``source`` says where the shapes come from."""

    num_bytes: int
    source: str
    by_kind: Mapping[str, int]


def weigh(folder: Path, config: ModelConfig, dtype: str, *, fused: bool) -> Weights:
    """Weigh a checkpoint by its headers; by ``config`` alone where the folder has no weights.

    ``fused``: for the decoder for bf16 on CUDA. :class:`CheckpointError` when a header cannot be read, or a tensor is
    missing or has another shape.
    """
    if not has_weights(folder):
        return weigh_config(config, dtype, fused=fused)
    found = read_headers(folder)
    for tensor in tensors(config):
        _check(folder, tensor, found)
    stored = {name: header.dtype for name, header in found.items()}
    return _weigh(config, dtype, stored, "safetensors headers", fused=fused)


def weigh_config(config: ModelConfig, dtype: str, *, fused: bool) -> Weights:
    """Weigh the model that ``config`` describes."""
    return _weigh(config, dtype, {}, "shapes in config.json", fused=fused)


def _weigh(
    config: ModelConfig, dtype: str, stored: Mapping[str, str], source: str, *, fused: bool
) -> Weights:
    kinds: Counter[str] = Counter()
    for tensor in tensors(config):
        own = stored.get(tensor.name, config.dtype)
        kinds[tensor.kind] += tensor.num_bytes(dtype, own, fused=fused and dtype == "bfloat16")
    return Weights(kinds.total(), source, dict(kinds))


def _check(folder: Path, tensor: Tensor, found: Mapping[str, Header]) -> None:
    if tensor.name not in found:
        raise CheckpointError(
            f"{folder}: tensor {tensor.name!r} is missing; use a complete checkpoint of this architecture"
        )
    if found[tensor.name].shape != tensor.shape:
        raise CheckpointError(
            f"{folder}: tensor {tensor.name!r}: got shape {list(found[tensor.name].shape)}, expected "
            f"{list(tensor.shape)}; use the config.json and the weights of one release"
        )


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
    yield from (Tensor(f"self_attn.{name}", shape, "attention") for name, shape in shapes.items())
    if c.attention_bias:
        yield Tensor("self_attn.q_a_proj.bias", (c.q_lora_rank,), "attention", Form.WIDE_IF_FUSED)
        yield Tensor("self_attn.kv_a_proj_with_mqa.bias", (c.kv_row_dim,), "attention", Form.WIDE_IF_FUSED)
        yield Tensor("self_attn.o_proj.bias", (c.hidden_size,), "attention")


def _indexer(c: ModelConfig) -> Iterator[Tensor]:
    shapes = {
        "wq_b.weight": (c.index_n_heads * c.index_head_dim, c.q_lora_rank),
        "wk.weight": (c.index_head_dim, c.hidden_size),
        "k_norm.weight": (c.index_head_dim,),
        "k_norm.bias": (c.index_head_dim,),
    }
    yield from (Tensor(f"self_attn.indexer.{name}", shape, "indexer") for name, shape in shapes.items())
    heads = (c.index_n_heads, c.hidden_size)
    yield Tensor("self_attn.indexer.weights_proj.weight", heads, "indexer", Form.SPLIT_IF_FUSED)


def _experts(c: ModelConfig) -> Iterator[Tensor]:
    yield Tensor("mlp.gate.weight", (c.n_routed_experts, c.hidden_size), "experts", Form.SPLIT_IF_FUSED)
    yield Tensor("mlp.gate.e_score_correction_bias", (c.n_routed_experts,), "experts", Form.WIDE)
    shared = c.moe_intermediate_size * c.n_shared_experts
    yield from _mlp("mlp.shared_experts.", c.hidden_size, shared, "experts")
    for expert in range(c.n_routed_experts):
        yield from _mlp(f"mlp.experts.{expert}.", c.hidden_size, c.moe_intermediate_size, "experts")


def _mlp(prefix: str, hidden: int, width: int, kind: str) -> Iterator[Tensor]:
    yield Tensor(f"{prefix}gate_proj.weight", (width, hidden), kind)
    yield Tensor(f"{prefix}up_proj.weight", (width, hidden), kind)
    yield Tensor(f"{prefix}down_proj.weight", (hidden, width), kind)
