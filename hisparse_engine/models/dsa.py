"""The DSA transformer that DeepSeek-V3.2 and GLM-5 share: latent attention with a lightning indexer, dense and MoE.

Sources: DeepSeek-V2 (multi-head latent attention and weight absorption), DeepSeek-V3.2 (DeepSeek Sparse Attention),
arXiv:2603.12201 (cross-layer sharing of the selection). Architectures differ only by their ``ModelConfig``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from hisparse_engine.models.checkpoint import Checkpoint
from hisparse_engine.models.config import LATENT_NORM_EPS, ModelConfig
from hisparse_engine.models.interface import AttentionPass
from hisparse_engine.models.layers import DenseMlp, FeedForward, MixtureOfExperts, rms_norm
from hisparse_engine.models.rope import Angles, RotaryEmbedding, rotate
from hisparse_engine.models.weights import WeightReader, WeightSource

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


class Indexer:
    """Lightning indexer: light queries and keys whose scores choose what attention sees."""

    def __init__(self, weights: WeightSource, config: ModelConfig) -> None:
        self._heads, self._dim, self._rope_dim = (
            config.index_n_heads,
            config.index_head_dim,
            config.qk_rope_head_dim,
        )
        self._interleaved = config.indexer_rope_interleaved
        self.query = weights.read("wq_b.weight", self._heads * self._dim, config.q_lora_rank)
        self.key = weights.read("wk.weight", self._dim, config.hidden_size)
        self.key_norm = weights.read("k_norm.weight", self._dim)
        self.key_norm_bias = weights.read("k_norm.bias", self._dim)
        self.head_weights = weights.read(
            "weights_proj.weight", self._heads, config.hidden_size, dtype=torch.float32
        )

    def __call__(self, x: torch.Tensor, q_latent: torch.Tensor, angles: Angles) -> tuple[torch.Tensor, ...]:
        """Return (query ``[tokens, heads, dim]``, key ``[tokens, dim]``, head weights fp32 ``[tokens, heads]``)."""
        query = F.linear(q_latent, self.query).view(-1, self._heads, self._dim)
        key = F.layer_norm(
            F.linear(x, self.key), (self._dim,), self.key_norm, self.key_norm_bias, LATENT_NORM_EPS
        )
        weights = F.linear(x.float(), self.head_weights) * self._heads**-0.5
        return self._roped(query, angles), self._roped(key.unsqueeze(1), angles).squeeze(1), weights

    def _roped(self, x: torch.Tensor, angles: Angles) -> torch.Tensor:
        turned = rotate(x[..., : self._rope_dim], *angles, interleaved=self._interleaved)
        return torch.cat((turned, x[..., self._rope_dim :]), dim=-1)


class LatentAttention:
    """Multi-head latent attention in absorbed form: queries meet KV rows in the latent space, never per-head keys."""

    def __init__(self, weights: WeightSource, config: ModelConfig, layer: int) -> None:
        self._config, self._layer = config, layer
        c, bias = config, config.attention_bias
        self.q_a = weights.read("q_a_proj.weight", c.q_lora_rank, c.hidden_size)
        self.q_a_bias = weights.read_optional("q_a_proj.bias", c.q_lora_rank, wanted=bias)
        self.q_a_norm = weights.read("q_a_layernorm.weight", c.q_lora_rank)
        self.q_b = weights.read("q_b_proj.weight", c.num_attention_heads * c.qk_head_dim, c.q_lora_rank)
        self.kv_a = weights.read("kv_a_proj_with_mqa.weight", c.kv_row_dim, c.hidden_size)
        self.kv_a_bias = weights.read_optional("kv_a_proj_with_mqa.bias", c.kv_row_dim, wanted=bias)
        self.kv_a_norm = weights.read("kv_a_layernorm.weight", c.kv_lora_rank)
        self.key_up, self.value_up = self._read_up_projections(weights)
        self.out = weights.read("o_proj.weight", c.hidden_size, c.num_attention_heads * c.v_head_dim)
        self.out_bias = weights.read_optional("o_proj.bias", c.hidden_size, wanted=bias)
        self.indexer = Indexer(weights.at("indexer"), c) if c.runs_indexer(layer) else None

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
        """Return (output ``[tokens, hidden]``, the positions attended, for shared layers below)."""
        q_latent = rms_norm(F.linear(x, self.q_a, self.q_a_bias), self.q_a_norm, LATENT_NORM_EPS)
        if self.indexer is not None:
            selected = cache.select(self._layer, *self.indexer(x, q_latent, angles))
        assert selected is not None, "the first layer runs an indexer (ModelConfig)"
        latent = cache.attend(self._layer, self._query(q_latent, angles), self._row(x, angles), selected)
        values = torch.bmm(latent.transpose(0, 1), self.value_up).transpose(0, 1)  # [tokens, heads, v]
        return F.linear(values.reshape(len(x), -1), self.out, self.out_bias), selected

    def _query(self, q_latent: torch.Tensor, angles: Angles) -> torch.Tensor:
        c = self._config
        query = F.linear(q_latent, self.q_b).view(-1, c.num_attention_heads, c.qk_head_dim)
        nope, rope = query[..., : c.qk_nope_head_dim], query[..., c.qk_nope_head_dim :]
        absorbed = torch.bmm(nope.transpose(0, 1), self.key_up).transpose(0, 1)
        return torch.cat((absorbed, rotate(rope, *angles, interleaved=True)), dim=-1)

    def _row(self, x: torch.Tensor, angles: Angles) -> torch.Tensor:
        c = self._config
        both = F.linear(x, self.kv_a, self.kv_a_bias)
        latent, rope = both[:, : c.kv_lora_rank], both[:, c.kv_lora_rank :]
        turned = rotate(rope.unsqueeze(1), *angles, interleaved=True).squeeze(1)
        return torch.cat((rms_norm(latent, self.kv_a_norm, LATENT_NORM_EPS), turned), dim=-1)


class DecoderLayer:
    """Pre-norm residual block: attention, then a dense MLP or a mixture of experts."""

    def __init__(self, weights: WeightSource, config: ModelConfig, layer: int) -> None:
        self._eps = config.rms_norm_eps
        self.attention_norm = weights.read("input_layernorm.weight", config.hidden_size)
        self.attention = LatentAttention(weights.at("self_attn"), config, layer)
        self.mlp_norm = weights.read("post_attention_layernorm.weight", config.hidden_size)
        self.mlp: FeedForward
        if config.is_sparse_mlp(layer):
            self.mlp = MixtureOfExperts(weights.at("mlp"), config)
        else:
            self.mlp = DenseMlp(weights.at("mlp"), config.hidden_size, config.intermediate_size)

    def __call__(
        self, x: torch.Tensor, angles: Angles, cache: AttentionPass, selected: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (hidden states, the positions that attention selected)."""
        attended, selected = self.attention(
            rms_norm(x, self.attention_norm, self._eps), angles, cache, selected
        )
        x = x + attended
        return x + self.mlp(rms_norm(x, self.mlp_norm, self._eps)), selected


class Decoder(Protocol):
    """All layers of a model: one implementation for any device, one for bf16 on CUDA (``cuda_dsa``)."""

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can hold a call: no host read, shapes that depend on no value."""

    def __call__(self, x: torch.Tensor, angles: Angles, cache: AttentionPass) -> torch.Tensor:
        """Return hidden states ``[tokens, hidden]`` before the final norm, for embeddings of the same shape."""

    def normed(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the final norm."""


class PlainDecoder:
    """The layers one operation at a time: any device and dtype, and the oracle of the CUDA one."""

    capturable = False

    def __init__(self, weights: WeightSource, config: ModelConfig, progress: Progress | None = None) -> None:
        """Read every layer and the final norm; ``progress(done, total)`` is called after each layer."""
        self._eps = config.rms_norm_eps
        self.layers = []
        for layer in range(config.num_hidden_layers):
            self.layers.append(DecoderLayer(weights.at(f"layers.{layer}"), config, layer))
            if progress is not None:
                progress(layer + 1, config.num_hidden_layers)
        self.norm = weights.read("norm.weight", config.hidden_size)

    def __call__(self, x: torch.Tensor, angles: Angles, cache: AttentionPass) -> torch.Tensor:
        """Return hidden states ``[tokens, hidden]`` before the final norm."""
        selected: torch.Tensor | None = None
        for layer in self.layers:
            x, selected = layer(x, angles, cache, selected)
        return x

    def normed(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the final norm."""
        return rms_norm(hidden, self.norm, self._eps)


def make_decoder(weights: WeightSource, config: ModelConfig, progress: Progress | None) -> Decoder:
    """Choose by where the weights are going to be, once."""
    if weights.device.type != "cuda" or weights.dtype != torch.bfloat16:
        return PlainDecoder(weights, config, progress)
    if find_spec("triton") is None:
        _log.warning(
            "Triton is not installed: the model runs unfused and without CUDA graphs; install triton"
        )
        return PlainDecoder(weights, config, progress)
    from hisparse_engine.models.cuda_dsa import FusedDecoder

    return FusedDecoder(weights, config, progress)


class DsaModel:
    """Token ids in, logits out; all state lives in the ``AttentionPass``."""

    def __init__(self, weights: WeightSource, config: ModelConfig, progress: Progress | None = None) -> None:
        """Read every tensor; ``progress(done, total)`` is called after each layer."""
        self.config = config
        self.device, self.dtype = weights.device, weights.dtype
        body = weights.at("model")
        self.embedding = body.read("embed_tokens.weight", config.vocab_size, config.hidden_size)
        self.decoder = make_decoder(body, config, progress)
        self.head = self._read_head(weights)
        self.rope = RotaryEmbedding(config.rope, config.qk_rope_head_dim, weights.device)

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can hold ``forward``, as far as the model is concerned."""
        return self.decoder.capturable

    def _read_head(self, weights: WeightSource) -> torch.Tensor:
        if self.config.tie_word_embeddings:
            return self.embedding
        return weights.read("lm_head.weight", self.config.vocab_size, self.config.hidden_size)

    def forward(self, tokens: torch.Tensor, cache: AttentionPass) -> torch.Tensor:
        """Return hidden states ``[tokens, hidden]`` before the final norm, for int64 ``tokens [tokens]``."""
        return self.decoder(F.embedding(tokens, self.embedding), self.rope(cache.positions), cache)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return ``[tokens, vocab]`` in the model's dtype."""
        return F.linear(self.decoder.normed(hidden), self.head)


@torch.inference_mode()
def load_model(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype,
    device: torch.device,
    progress: Progress | None = None,
) -> DsaModel:
    """Build the model of an open checkpoint; :class:`CheckpointError` names what is missing or misshapen."""
    reader = WeightReader(checkpoint, dtype, device)
    return DsaModel(reader, checkpoint.config, progress)
