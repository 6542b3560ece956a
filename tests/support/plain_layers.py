"""Oracles of the model's CUDA kernels: the same signatures over the layers that run everywhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812

from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.layers import Router, rms_norm
from hisparse_engine.models.rope import rotate


def add_rms_norm(
    x: torch.Tensor,
    terms: torch.Tensor | None,
    factors: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    if terms is not None:
        wide = terms.float() if factors is None else terms.float() * factors.unsqueeze(2)
        x = (x.float() + wide.sum(dim=1)).to(x.dtype)
    return x, rms_norm(x, weight, eps)


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def route(logits: torch.Tensor, bias: torch.Tensor, routing: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """``Router`` with its product done: an identity weight and the logits as input. Choices come in any order."""
    config = SimpleNamespace(
        n_routed_experts=routing.num_experts,
        n_group=routing.groups,
        topk_group=routing.kept_groups,
        num_experts_per_tok=routing.choices,
        norm_topk_prob=routing.normalised,
        routed_scaling_factor=routing.scale,
    )
    router = Router.__new__(Router)
    router._config = cast(ModelConfig, config)
    router.weight = torch.eye(routing.num_experts, device=logits.device)
    router.bias = bias
    experts, weights = router(logits.view(len(logits), -1, routing.num_experts).sum(dim=1))
    shared = torch.arange(routing.shared, device=logits.device) + routing.num_experts
    experts = torch.cat((experts, shared.expand(len(experts), -1)), dim=1)
    return experts.int(), torch.cat((weights, weights.new_ones(len(weights), routing.shared)), dim=1)


def expert_outputs(
    x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor, experts: torch.Tensor
) -> torch.Tensor:
    """Every token through each of its experts: ``[tokens, choices, hidden]``, in fp32."""
    return torch.stack(
        [
            torch.stack([_expert_output(row, gate_up[e], down[e]) for e in chosen])
            for row, chosen in zip(x, experts.tolist(), strict=True)
        ]
    )


def _expert_output(x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    gated = silu_mul(F.linear(x.float(), gate_up.float()).to(x.dtype))
    return F.linear(gated.float(), down.float())


def split_latents(
    projected: torch.Tensor,
    bias: torch.Tensor | None,
    cos: torch.Tensor,
    sin: torch.Tensor,
    norms: Any,
    index: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    kind, q_rank, kv_rank, rope = norms.query.dtype, len(norms.query), len(norms.row), 2 * cos.shape[1]
    projected = projected.sum(dim=1)
    own = projected[:, : q_rank + kv_rank + rope]
    own = (own if bias is None else own + bias).to(kind)
    q_latent = rms_norm(own[:, :q_rank], norms.query, norms.eps)
    turned = rotate(own[:, None, q_rank + kv_rank :], cos, sin, interleaved=True).squeeze(1)
    row = torch.cat((rms_norm(own[:, q_rank : q_rank + kv_rank], norms.row, norms.eps), turned), dim=1)
    rest = projected[:, q_rank + kv_rank + rope :]
    if not index.heads:
        return q_latent, row, row[:, :0], rest
    key = F.layer_norm(rest[:, : index.dim].to(kind), (index.dim,), norms.key, norms.key_bias, norms.eps)
    turned = rotate(key[:, None, :rope], cos, sin, interleaved=index.interleaved).squeeze(1)
    weights = rest[:, index.dim :].reshape(len(rest), -1, index.heads).sum(dim=1) * index.heads**-0.5
    return q_latent, row, torch.cat((turned, key[:, rope:]), dim=1), weights


def rotate_queries(
    up: torch.Tensor, query: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, index: Any
) -> torch.Tensor:
    tokens, heads, width = query.shape
    rope, own = 2 * cos.shape[1], up.shape[1] - index.heads * index.dim
    query[..., width - rope :] = rotate(
        up[:, :own].view(tokens, heads, -1)[..., -rope:], cos, sin, interleaved=True
    )
    index_query = up[:, own:].view(tokens, index.heads, index.dim)
    if not index.heads:
        return index_query
    turned = rotate(index_query[..., :rope], cos, sin, interleaved=index.interleaved)
    return torch.cat((turned, index_query[..., rope:]), dim=-1)
