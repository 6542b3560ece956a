"""What follows attention in a layer, for bf16 on CUDA: the results are terms that the next norm's kernel adds up."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.cuda_linear import bf16_parts, linear_fp32, linear_terms, read_stacked
from hisparse_engine.models.weights import WeightSource
from hisparse_engine.ops.gpu.activation import silu_mul
from hisparse_engine.ops.gpu.expert_tiles import sort_by_expert
from hisparse_engine.ops.gpu.experts import down, gated_up, tiling
from hisparse_engine.ops.gpu.routing import Routing, route

_ROUTER_SPLITS = 14
_DOWN_SPLITS = 4


class Terms(NamedTuple):
    """A block's output, still to be summed: ``Σ_i factors[:, i] · values[:, i]``."""

    values: torch.Tensor
    """``[tokens, n, hidden]``"""
    factors: torch.Tensor | None
    """fp32 ``[tokens, n]``; None: ones."""


class FusedFeedForward(Protocol):
    """What follows attention in a layer: ``[tokens, hidden]`` → terms."""

    def __call__(self, x: torch.Tensor) -> Terms:
        """Apply the block."""


class FusedDenseMlp:
    """SiLU-gated MLP."""

    def __init__(self, weights: WeightSource, hidden: int, width: int) -> None:
        names = [("gate_proj.weight", width), ("up_proj.weight", width)]
        self.gate_up = read_stacked(weights, names, hidden)
        self.down = weights.read("down_proj.weight", hidden, width)

    def __call__(self, x: torch.Tensor) -> Terms:
        """Apply the MLP to ``[tokens, hidden]``."""
        return Terms(linear_terms(silu_mul(F.linear(x, self.gate_up)), self.down, _DOWN_SPLITS), None)


class FusedMixtureOfExperts:
    """Routed experts and shared ones in the same grouped products; nothing is read back to the host.

    A shared MLP of ``n`` times an expert's width is the sum of ``n`` experts that every token goes through.
    """

    def __init__(self, weights: WeightSource, config: ModelConfig) -> None:
        c, gate = config, weights.at("gate")
        router = gate.read("weight", c.n_routed_experts, c.hidden_size, dtype=torch.float32)
        self.router = read_stacked(gate, [], c.hidden_size, bf16_parts(router))
        self.bias = gate.read("e_score_correction_bias", c.n_routed_experts, dtype=torch.float32)
        self.routing = Routing(
            num_experts=c.n_routed_experts,
            groups=c.n_group,
            kept_groups=c.topk_group,
            choices=c.num_experts_per_tok,
            shared=c.n_shared_experts,
            normalised=c.norm_topk_prob,
            scale=c.routed_scaling_factor,
        )
        self.gate_up, self.down = _read_experts(weights, config)

    def __call__(self, x: torch.Tensor) -> Terms:
        """Apply the block to ``[tokens, hidden]``."""
        experts, factors = route(linear_fp32(x, self.router, _ROUTER_SPLITS), self.bias, self.routing)
        cut = tiling(experts.numel(), len(self.down))
        tiles = sort_by_expert(experts, len(self.down), cut.rows)
        gated = gated_up(x, self.gate_up, tiles, cut.up)
        return Terms(down(gated, self.down, tiles, cut.down), factors)


def _read_experts(weights: WeightSource, config: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Read ``[experts, 2 · width, hidden]`` and ``[experts, hidden, width]``: the routed experts, then the shared."""
    hidden, width = config.hidden_size, config.moe_intermediate_size
    routed, shared = config.n_routed_experts, config.n_shared_experts
    gate_up = weights.empty(routed + shared, 2 * width, hidden)
    down_ = weights.empty(routed + shared, hidden, width)
    for expert in range(routed):
        source = weights.at(f"experts.{expert}")
        source.read_into(gate_up[expert, :width], "gate_proj.weight")
        source.read_into(gate_up[expert, width:], "up_proj.weight")
        source.read_into(down_[expert], "down_proj.weight")
    source = weights.at("shared_experts")
    halves = gate_up[routed:].view(shared, 2, width, hidden)
    for half, name in enumerate(("gate_proj.weight", "up_proj.weight")):
        whole = source.read(name, shared * width, hidden)
        halves[:, half].copy_(whole.view(shared, width, hidden))
    whole = source.read("down_proj.weight", hidden, shared * width)
    down_[routed:].copy_(whole.view(hidden, shared, width).transpose(0, 1))
    return gate_up, down_
