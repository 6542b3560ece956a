"""The decoder for bf16 on CUDA: the same layers in few kernels, with no host read, so that CUDA graphs can hold them.

The arithmetic is ``dsa.PlainDecoder``'s, rounded at the same places; sums of experts and residuals are rounded once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

from hisparse_engine.models.config import LATENT_NORM_EPS, ModelConfig
from hisparse_engine.models.cuda_linear import bf16_parts, linear, linear_fp32, linear_terms, read_stacked
from hisparse_engine.models.cuda_mlp import FusedDenseMlp, FusedFeedForward, FusedMixtureOfExperts, Terms
from hisparse_engine.models.interface import AttentionPass
from hisparse_engine.models.rope import Angles
from hisparse_engine.models.weights import WeightSource
from hisparse_engine.ops.gpu.latents import LatentNorms, split_latents
from hisparse_engine.ops.gpu.norm import add_rms_norm
from hisparse_engine.ops.gpu.rotation import IndexShape, rotate_queries

_DOWN_SPLITS, _OUT_SPLITS = 7, 4


class FusedAttention:
    """Multi-head latent attention in absorbed form, with the indexer's projections stacked onto attention's own."""

    def __init__(self, weights: WeightSource, config: ModelConfig, layer: int) -> None:
        self._config, self._layer, c = config, layer, config
        indexer = weights.at("indexer") if c.runs_indexer(layer) else None
        self.index = IndexShape(0, 0, False)
        if indexer is not None:
            self.index = IndexShape(c.index_n_heads, c.index_head_dim, c.indexer_rope_interleaved)
        self.down = self._read_down(weights, indexer)
        self.down_bias = self._read_down_bias(weights)
        self.norms = LatentNorms(
            query=weights.read("q_a_layernorm.weight", c.q_lora_rank),
            row=weights.read("kv_a_layernorm.weight", c.kv_lora_rank),
            key=indexer.read("k_norm.weight", c.index_head_dim) if indexer else None,
            key_bias=indexer.read("k_norm.bias", c.index_head_dim) if indexer else None,
            eps=LATENT_NORM_EPS,
        )
        self.up = self._read_up(weights, indexer)
        self.key_up, self.value_up = self._read_up_projections(weights)
        self.out = weights.read("o_proj.weight", c.hidden_size, c.num_attention_heads * c.v_head_dim)
        self.out_bias = weights.read_optional("o_proj.bias", c.hidden_size, wanted=c.attention_bias)

    def _read_down(self, weights: WeightSource, indexer: WeightSource | None) -> torch.Tensor:
        """Stack all that reads the layer's input: q_a, kv_a, then the indexer's key and its head weights' parts."""
        c = self._config
        extra: list[torch.Tensor] = []
        if indexer is not None:
            heads = indexer.read("weights_proj.weight", c.index_n_heads, c.hidden_size, dtype=torch.float32)
            extra = [indexer.read("wk.weight", c.index_head_dim, c.hidden_size), *bf16_parts(heads)]
        names = [("q_a_proj.weight", c.q_lora_rank), ("kv_a_proj_with_mqa.weight", c.kv_row_dim)]
        return read_stacked(weights, names, c.hidden_size, extra)

    def _read_down_bias(self, weights: WeightSource) -> torch.Tensor | None:
        c = self._config
        if not c.attention_bias:
            return None
        names = (("q_a_proj.bias", c.q_lora_rank), ("kv_a_proj_with_mqa.bias", c.kv_row_dim))
        return torch.cat([weights.read(name, size) for name, size in names]).float()

    def _read_up(self, weights: WeightSource, indexer: WeightSource | None) -> torch.Tensor:
        """Stack all that reads the query latent: q_b, then the indexer's wq_b."""
        c = self._config
        own = c.num_attention_heads * c.qk_head_dim
        up = weights.empty(own + self.index.heads * self.index.dim, c.q_lora_rank)
        weights.read_into(up[:own], "q_b_proj.weight")
        if indexer is not None:
            indexer.read_into(up[own:], "wq_b.weight")
        return up

    def _read_up_projections(self, weights: WeightSource) -> tuple[torch.Tensor, torch.Tensor]:
        """Return views ``[heads, nope, latent]`` and ``[heads, latent, v]`` of kv_b_proj."""
        c = self._config
        per_head = c.qk_nope_head_dim + c.v_head_dim
        kv_b = weights.read("kv_b_proj.weight", c.num_attention_heads * per_head, c.kv_lora_rank)
        stacked = kv_b.view(c.num_attention_heads, per_head, c.kv_lora_rank)
        return stacked[:, : c.qk_nope_head_dim], stacked[:, c.qk_nope_head_dim :].transpose(1, 2)

    def __call__(
        self, x: torch.Tensor, angles: Angles, cache: AttentionPass, selected: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (terms of the output ``[tokens, n, hidden]``, the positions attended, for shared layers below)."""
        c = self._config
        q_latent, row, key, head_weights = split_latents(
            linear_fp32(x, self.down, _DOWN_SPLITS),
            self.down_bias,
            *angles,
            self.norms,
            self.index,
            float8_row=cache.float8_rows,
        )
        query, index_query = self._queries(q_latent, angles)
        if self.index.heads:
            selected = cache.select(self._layer, index_query, key, head_weights)
        assert selected is not None, "the first layer runs an indexer (ModelConfig)"
        latent = cache.attend(self._layer, query, row, selected)
        values = x.new_empty(len(x), c.num_attention_heads, c.v_head_dim)
        torch.bmm(latent.transpose(0, 1), self.value_up, out=values.transpose(0, 1))
        return self._output(values.flatten(1)), selected

    def _output(self, values: torch.Tensor) -> torch.Tensor:
        """Return terms ``[tokens, n, hidden]``."""
        if self.out_bias is not None:
            return F.linear(values, self.out, self.out_bias).unsqueeze(1)
        return linear_terms(values, self.out, _OUT_SPLITS)

    def _queries(self, q_latent: torch.Tensor, angles: Angles) -> tuple[torch.Tensor, torch.Tensor]:
        c = self._config
        up = linear(q_latent, self.up)
        query = up.new_empty(len(up), c.num_attention_heads, c.kv_row_dim)
        heads = up[:, : c.num_attention_heads * c.qk_head_dim].view(-1, c.num_attention_heads, c.qk_head_dim)
        nope = heads[..., : c.qk_nope_head_dim].transpose(0, 1)
        torch.bmm(nope, self.key_up, out=query[..., : c.kv_lora_rank].transpose(0, 1))
        return query, rotate_queries(up, query, *angles, self.index)


class FusedLayer:
    """One layer's blocks and the weights of the norms before them."""

    def __init__(self, weights: WeightSource, config: ModelConfig, layer: int) -> None:
        self.attention_norm = weights.read("input_layernorm.weight", config.hidden_size)
        self.attention = FusedAttention(weights.at("self_attn"), config, layer)
        self.mlp_norm = weights.read("post_attention_layernorm.weight", config.hidden_size)
        self.mlp: FusedFeedForward
        if config.is_sparse_mlp(layer):
            self.mlp = FusedMixtureOfExperts(weights.at("mlp"), config)
        else:
            self.mlp = FusedDenseMlp(weights.at("mlp"), config.hidden_size, config.intermediate_size)


class FusedDecoder:
    """All layers. A block's output joins the residual stream in the kernel of the norm that follows it."""

    capturable = True

    def __init__(
        self, weights: WeightSource, config: ModelConfig, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Read every layer and the final norm; ``progress(done, total)`` is called after each layer."""
        self._eps = config.rms_norm_eps
        self.layers = []
        for layer in range(config.num_hidden_layers):
            self.layers.append(FusedLayer(weights.at(f"layers.{layer}"), config, layer))
            if progress is not None:
                progress(layer + 1, config.num_hidden_layers)
        self.norm = weights.read("norm.weight", config.hidden_size)

    def __call__(self, x: torch.Tensor, angles: Angles, cache: AttentionPass) -> torch.Tensor:
        """Return hidden states ``[tokens, hidden]`` before the final norm."""
        selected: torch.Tensor | None = None
        pending: Terms | None = None
        for layer in self.layers:
            x, normed = self._join(x, pending, layer.attention_norm)
            attended, selected = layer.attention(normed, angles, cache, selected)
            x, normed = self._join(x, Terms(attended, None), layer.mlp_norm)
            pending = layer.mlp(normed)
        return self._join(x, pending, self.norm)[0]

    def normed(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the final norm."""
        return self._join(hidden, None, self.norm)[1]

    def _join(
        self, x: torch.Tensor, terms: Terms | None, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (the residual stream with ``terms`` added, its norm)."""
        values, factors = terms if terms is not None else (None, None)
        return add_rms_norm(x, values, factors, weight, self._eps)
