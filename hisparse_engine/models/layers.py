"""Layers that every architecture here shares: norms, dense MLP, mixture of experts with group-limited routing."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.weights import WeightSource


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root-mean-square norm over the last dimension, computed in fp32; returns ``x``'s dtype."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


class FeedForward(Protocol):
    """What follows attention in a layer: ``[tokens, hidden] → [tokens, hidden]``."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""


class DenseMlp:
    """SiLU-gated MLP; gate and up projections are stacked in one ``[2 · width, hidden]`` weight."""

    def __init__(self, weights: WeightSource, hidden: int, width: int) -> None:
        self.gate_up = weights.empty(2 * width, hidden)
        weights.read_into(self.gate_up[:width], "gate_proj.weight")
        weights.read_into(self.gate_up[width:], "up_proj.weight")
        self.down = weights.read("down_proj.weight", hidden, width)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the MLP to ``[tokens, hidden]``."""
        return gated_mlp(x, self.gate_up, self.down)


def gated_mlp(x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """``down(silu(gate(x)) · up(x))`` for ``gate_up [2 · width, hidden]`` and ``down [hidden, width]``."""
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, down)


class Router:
    """Sigmoid router with a selection bias and group-limited top-k (DeepSeek-V3, section 2.1.2)."""

    def __init__(self, weights: WeightSource, config: ModelConfig) -> None:
        self._config = config
        experts = config.n_routed_experts
        self.weight = weights.read("weight", experts, config.hidden_size, dtype=torch.float32)
        self.bias = weights.read("e_score_correction_bias", experts, dtype=torch.float32)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (expert ids int64, weights fp32), each ``[tokens, num_experts_per_tok]``."""
        scores = F.linear(x.float(), self.weight).sigmoid()
        choice = self._within_groups(scores + self.bias)
        experts = choice.topk(self._config.num_experts_per_tok, dim=-1, sorted=False).indices
        weights = scores.gather(1, experts)
        if self._config.norm_topk_prob:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return experts, weights * self._config.routed_scaling_factor

    def _within_groups(self, scores: torch.Tensor) -> torch.Tensor:
        """Rule out every expert outside the ``topk_group`` groups with the best two experts."""
        groups, kept = self._config.n_group, self._config.topk_group
        if kept == groups:
            return scores
        grouped = scores.view(len(scores), groups, -1)
        best = grouped.topk(2, dim=-1).values.sum(dim=-1).topk(kept, dim=-1, sorted=False).indices
        excluded = torch.ones(best.shape[0], groups, dtype=torch.bool, device=scores.device)
        excluded.scatter_(1, best, False)
        return grouped.masked_fill(excluded.unsqueeze(-1), float("-inf")).view_as(scores)


class MixtureOfExperts:
    """Routed experts, each token through ``num_experts_per_tok`` of them, plus shared experts for every token."""

    def __init__(self, weights: WeightSource, config: ModelConfig) -> None:
        hidden, width, count = config.hidden_size, config.moe_intermediate_size, config.n_routed_experts
        self.router = Router(weights.at("gate"), config)
        self.shared = DenseMlp(weights.at("shared_experts"), hidden, width * config.n_shared_experts)
        self.gate_up = weights.empty(count, 2 * width, hidden)
        self.down = weights.empty(count, hidden, width)
        for expert in range(count):
            source = weights.at(f"experts.{expert}")
            source.read_into(self.gate_up[expert, :width], "gate_proj.weight")
            source.read_into(self.gate_up[expert, width:], "up_proj.weight")
            source.read_into(self.down[expert], "down_proj.weight")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block to ``[tokens, hidden]``."""
        experts, weights = self.router(x)
        return self._routed(x, experts, weights) + self.shared(x)

    def _routed(self, x: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sort (token, expert) pairs by expert and run each expert once, over all of its tokens."""
        per_token = experts.shape[1]
        order = experts.view(-1).argsort(stable=True)
        token_of, weight_of = order // per_token, weights.view(-1)[order].to(x.dtype).unsqueeze(1)
        counts = torch.bincount(experts.view(-1), minlength=len(self.down)).tolist()
        out, start = torch.zeros_like(x), 0
        for expert, count in enumerate(counts):
            if count:
                part = slice(start, start + count)
                result = gated_mlp(x[token_of[part]], self.gate_up[expert], self.down[expert])
                out.index_add_(0, token_of[part], result * weight_of[part])
                start += count
        return out
