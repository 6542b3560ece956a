"""What a DSA model is: every shape and constant that the layers need, checked once and then frozen.

This module knows neither torch nor the ways in which a ``config.json`` may spell these values
(``hf_config`` does). A ``ModelConfig`` that exists is consistent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Architecture: TypeAlias = Literal["DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM"]
MlpType: TypeAlias = Literal["dense", "sparse"]
IndexerType: TypeAlias = Literal["full", "shared"]
FloatType: TypeAlias = Literal["float32", "bfloat16", "float16"]

Size: TypeAlias = Annotated[int, Field(ge=1)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]

MAX_LAYERS = 10_000
"""A bound that no model reaches, so that a damaged count cannot make lists of its length."""

LATENT_NORM_EPS = 1e-6
"""Epsilon of ``q_a_layernorm``, ``kv_a_layernorm`` and the indexer's ``k_norm``, whatever ``rms_norm_eps`` is.

Source: both reference models build these norms with their class default.
"""


class _Frozen(BaseModel):
    """A value: typed strictly (no silent ``"64"`` → 64), finite, immutable."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class RopeConfig(_Frozen):
    """Rotary position embedding: plain, or YaRN (arXiv:2309.00071) when ``type`` is ``yarn``."""

    type: Literal["default", "yarn"] = "default"
    theta: Annotated[float, Field(gt=1)] = 10_000.0
    factor: Positive = 1.0
    original_max_position_embeddings: Size
    beta_fast: Positive = 32.0
    beta_slow: Positive = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: Positive | None = None
    """An explicit ``cos_sin_scale``; ``None`` derives it from the other values."""
    truncate: bool = True
    """Whether YaRN rounds its correction range outwards to whole dimensions."""

    @property
    def cos_sin_scale(self) -> float:
        """What cos and sin are multiplied by: 1 for plain RoPE, YaRN's attention factor otherwise."""
        if self.type == "default":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._mscale(self.mscale) / self._mscale(self.mscale_all_dim)
        return self._mscale(1.0)

    @property
    def softmax_mscale(self) -> float:
        """What the softmax scale is multiplied by: mscale² when YaRN sets ``mscale_all_dim``, else 1."""
        if self.type == "default" or not self.mscale_all_dim:
            return 1.0
        return self._mscale(self.mscale_all_dim) ** 2

    def _mscale(self, weight: float) -> float:
        return 1.0 if self.factor <= 1 else 0.1 * weight * math.log(self.factor) + 1.0


class BlockFp8(_Frozen):
    """Weights stored as float8_e4m3fn with one ``weight_scale_inv`` per block of ``block_shape`` (rows, columns)."""

    block_shape: tuple[Size, Size] = (128, 128)


class ModelConfig(_Frozen):
    """One model's shapes and constants, in the words of HF's ``config.json``; lists have one entry per layer."""

    architecture: Architecture
    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)]
    max_position_embeddings: Size
    rms_norm_eps: Positive
    tie_word_embeddings: bool
    rope: RopeConfig

    # attention (MLA)
    num_attention_heads: Size
    q_lora_rank: Size
    kv_lora_rank: Size
    qk_nope_head_dim: Size
    qk_rope_head_dim: Size
    v_head_dim: Size
    attention_bias: bool

    # lightning indexer
    index_topk: Size
    index_head_dim: Size
    index_n_heads: Size
    indexer_types: tuple[IndexerType, ...]
    """``full`` runs the indexer; ``shared`` takes the top-k of the last full layer before it."""
    indexer_rope_interleaved: bool

    # MLP and mixture of experts
    mlp_layer_types: tuple[MlpType, ...]
    intermediate_size: Size
    moe_intermediate_size: Size
    n_routed_experts: Size
    n_shared_experts: Size
    num_experts_per_tok: Size
    n_group: Size
    topk_group: Size
    norm_topk_prob: bool
    routed_scaling_factor: float

    # the checkpoint
    bos_token_id: Count | None = None
    eos_token_ids: tuple[Count, ...] = ()
    num_nextn_predict_layers: Count = 0
    """Trailing multi-token-prediction layers; their tensors follow the decoder's and are ignored."""
    quantization: BlockFp8 | None = None
    dtype: FloatType = "float32"
    """What unquantised weights are stored as."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        for key, expected, holds in _RULES:
            if not holds(self):
                context = {"key": key, "expected": expected}
                raise PydanticCustomError("inconsistent", "{key}: expected {expected}", context)
        return self

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query and key."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def kv_row_dim(self) -> int:
        """Elements of one KV row: normalised latent, then roped key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def softmax_scale(self) -> float:
        """What attention scores are multiplied by, YaRN's mscale² included."""
        return float(self.qk_head_dim**-0.5) * self.rope.softmax_mscale

    @property
    def index_softmax_scale(self) -> float:
        """What the indexer's query-key products are multiplied by."""
        return float(self.index_head_dim**-0.5)

    @property
    def num_full_indexer_layers(self) -> int:
        """Layers that keep index keys."""
        return self.indexer_types.count("full")

    def is_sparse_mlp(self, layer: int) -> bool:
        """Whether ``layer`` routes tokens to experts."""
        return self.mlp_layer_types[layer] == "sparse"

    def runs_indexer(self, layer: int) -> bool:
        """Whether ``layer`` selects its own top-k."""
        return self.indexer_types[layer] == "full"


def _experts_per_group(config: ModelConfig) -> int:
    return config.n_routed_experts // config.n_group


_Rule: TypeAlias = tuple[str, str, Callable[[ModelConfig], bool]]

# (key, what it must be, whether it is); the first one broken is reported.
_RULES: tuple[_Rule, ...] = (
    ("qk_rope_head_dim", "an even number", lambda c: c.qk_rope_head_dim % 2 == 0),
    ("qk_rope_head_dim", "at most index_head_dim", lambda c: c.qk_rope_head_dim <= c.index_head_dim),
    ("mlp_layer_types", "num_hidden_layers entries", lambda c: len(c.mlp_layer_types) == c.num_hidden_layers),
    ("indexer_types", "num_hidden_layers entries", lambda c: len(c.indexer_types) == c.num_hidden_layers),
    ("indexer_types", "'full' for the first layer", lambda c: c.indexer_types[0] == "full"),
    ("n_routed_experts", "a multiple of n_group", lambda c: c.n_routed_experts % c.n_group == 0),
    ("n_routed_experts", "at least two experts per group", lambda c: _experts_per_group(c) >= 2),
    ("topk_group", "at most n_group", lambda c: c.topk_group <= c.n_group),
    (
        "num_experts_per_tok",
        "at most topk_group × experts per group",
        lambda c: c.num_experts_per_tok <= c.topk_group * _experts_per_group(c),
    ),
)
