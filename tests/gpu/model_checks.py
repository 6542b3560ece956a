"""The model's CUDA kernels and its whole forward pass against the plain layers, on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.dsa import DsaModel, PlainDecoder
from hisparse_engine.models.random_weights import RandomWeights
from hisparse_engine.ops.gpu import (
    activation,
    expert_tiles,
    experts,
    latents,
    norm,
    rotation,
    routing,
    skinny,
)
from tests.gpu.model_inputs import BF16, CUDA, SHAPES, OnCpu, StubPass, capture, random, relative
from tests.support import plain_layers

EPS = 1e-6
SMALL = {
    "vocab_size": 512,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "moe_intermediate_size": 256,
    "num_attention_heads": 16,
    "q_lora_rank": 256,
    "index_n_heads": 16,
    "n_routed_experts": 16,
}
"""Replaces sizes of a released config, so that the CPU keeps up; head sizes stay."""


def check_operations(name: str, *, quick: bool = False) -> Iterator[dict[str, object]]:
    """Every kernel against the plain layers; ``quick``: at sizes that compute-sanitizer gets through."""
    torch.manual_seed(0)
    config = SHAPES[name](1)
    if quick:
        config = config.model_copy(update=SMALL)
    for tokens in (1, 5) if quick else (1, 37):
        for operation, error in operation_errors(config, tokens):
            yield {"check": operation, "tokens": tokens, "relative_error": error}
    counts = (1, 64) if quick else (1, 5, 64, 300, 1500)
    for operation, error in (*skinny_errors(quick=quick), *expert_errors(config, counts)):
        yield {"check": operation, "relative_error": error}


def check_pass(name: str, *, quick: bool = False) -> Iterator[dict[str, object]]:
    """The whole forward pass of a small model."""
    torch.manual_seed(0)
    config = SHAPES[name](2 if quick else 4, first_dense=1).model_copy(update=SMALL)
    for row in pass_errors(config, (3,) if quick else (3, 130)):
        yield {"check": "forward against fp32 on the CPU", **row}


def operation_errors(config: ModelConfig, tokens: int) -> Iterator[tuple[str, float]]:
    """Relative error of each operation at ``config``'s shapes, and whether a repeat gives the same bits."""
    c = config
    index = rotation.IndexShape(c.index_n_heads, c.index_head_dim, c.indexer_rope_interleaved)
    angles = torch.rand(tokens, c.qk_rope_head_dim // 2, device=CUDA) * 6
    cos, sin = angles.cos(), angles.sin()
    own = c.q_lora_rank + c.kv_row_dim
    norms = latents.LatentNorms(
        random(c.q_lora_rank), random(c.kv_lora_rank), random(index.dim), random(index.dim), EPS
    )
    projected = random(tokens, 2, own + index.dim + 3 * index.heads, kind=torch.float32)
    up = random(tokens, c.num_attention_heads * c.qk_head_dim + index.heads * index.dim)
    query = random(tokens, c.num_attention_heads, c.kv_row_dim)
    x, weight, terms = random(tokens, c.hidden_size), random(c.hidden_size), random(tokens, 9, c.hidden_size)
    factors = torch.rand(tokens, 9, device=CUDA)
    route_like = routing.Routing(
        c.n_routed_experts, c.n_group, c.topk_group, c.num_experts_per_tok, 1, normalised=True, scale=2.5
    )
    logits = random(tokens, 2, 3 * c.n_routed_experts, kind=torch.float32)
    bias = 0.1 * random(c.n_routed_experts, kind=torch.float32)
    cases: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
        "add_rms_norm": (norm.add_rms_norm, plain_layers.add_rms_norm, (x, terms, factors, weight, EPS)),
        "rms_norm": (norm.add_rms_norm, plain_layers.add_rms_norm, (x, None, None, weight, EPS)),
        "silu_mul": (activation.silu_mul, plain_layers.silu_mul, (random(tokens, 2 * c.intermediate_size),)),
        "split_latents": (
            latents.split_latents,
            plain_layers.split_latents,
            (projected, random(own, kind=torch.float32), cos, sin, norms, index),
        ),
        "rotate_queries": (
            lambda *args: (rotation.rotate_queries(args[0], args[1], *args[2:]), args[1]),
            lambda *args: (plain_layers.rotate_queries(args[0], args[1], *args[2:]), args[1]),
            (up, query, cos, sin, index),
        ),
        "route": (sorted_route(routing.route), sorted_route(plain_layers.route), (logits, bias, route_like)),
    }
    for name, (ours, theirs, args) in cases.items():
        got, again, expected = (as_tuple(f(*args)) for f in (ours, ours, theirs))
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True)), f"{name} repeats"
        yield name, max(relative(a, b) for a, b in zip(got, expected, strict=True))


def as_tuple(value: Any) -> tuple[torch.Tensor, ...]:
    return tuple(t.clone() for t in value) if isinstance(value, tuple) else (value.clone(),)


def sorted_route(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        chosen, weights = function(*args)
        order = chosen.argsort(dim=1)
        return chosen.gather(1, order), weights.gather(1, order)

    return run


def expert_errors(config: ModelConfig, counts: Sequence[int]) -> Iterator[tuple[str, float]]:
    """Relative error of the grouped products for each tiling that some number of tokens gets."""
    hidden, width, num_experts, choices = config.hidden_size, config.moe_intermediate_size, 16, 4
    gate_up = random(num_experts, 2 * width, hidden) * hidden**-0.5
    down = random(num_experts, hidden, width) * width**-0.5
    for tokens in counts:
        x = random(tokens, hidden)
        chosen = torch.rand(tokens, num_experts, device=CUDA).argsort(dim=1)[:, :choices].int()
        chosen[: tokens // 2, 0] = 3
        cut = experts.tiling(chosen.numel(), num_experts)
        tiles = expert_tiles.sort_by_expert(chosen, num_experts, cut.rows)
        got, again = (
            experts.down(experts.gated_up(x, gate_up, tiles, cut.up), down, tiles, cut.down) for _ in range(2)
        )
        assert torch.equal(got, again), "grouped products repeat"
        looked_at = torch.arange(0, tokens, max(1, tokens // 8), device=CUDA)
        expected = plain_layers.expert_outputs(x[looked_at], gate_up, down, chosen[looked_at])
        yield f"experts, {tokens} tokens, tiles of {cut.rows}", relative(got[looked_at], expected)


def skinny_errors(*, quick: bool) -> Iterator[tuple[str, float]]:
    """Relative error of products over few rows: one depth that splits evenly, one that does not."""
    shapes = ((1, 7168, 4), (8, 1536, 1), (13, 1000, 3), (16, 7168, 14))
    for rows, depth, splits in shapes[1:3] if quick else shapes:
        x, weight = random(rows, depth), random(300, depth)
        expected = x.double() @ weight.double().T
        partial, again = (skinny.split_linear(x, weight, splits) for _ in range(2))
        assert torch.equal(partial, again), "skinny products repeat"
        yield f"split_linear, {rows} rows", relative(partial.sum(dim=1), expected)
        yield f"skinny_linear, {rows} rows", relative(skinny.skinny_linear(x, weight), expected)


def pass_errors(config: ModelConfig, token_counts: Sequence[int]) -> Iterator[dict[str, object]]:
    """Fused bf16 and plain bf16 on CUDA, each against fp32 on the CPU with the same weights."""
    weights = RandomWeights(0, BF16, CUDA)
    reference = DsaModel(OnCpu(weights), config)
    fused, plain = DsaModel(weights, config), DsaModel(weights, config)
    plain.decoder = PlainDecoder(weights.at("model"), config)
    assert fused.capturable
    assert not plain.capturable
    for tokens in token_counts:
        ids = torch.arange(tokens) * 3 % config.vocab_size
        expected = reference.logits(reference.forward(ids, StubPass(tokens, config, OnCpu.device)))
        on_gpu = (
            model.logits(model.forward(ids.to(CUDA), StubPass(tokens, config, CUDA))).cpu()
            for model in (fused, plain)
        )
        errors = [(logits - expected).norm(dim=1) / expected.norm(dim=1) for logits in on_gpu]
        yield {
            "tokens": tokens,
            "relative_error": float(errors[0].median()),
            "relative_error_plain": float(errors[1].median()),
            "worst_token": float(errors[0].max()),
            "worst_token_plain": float(errors[1].max()),
            "graph_equals_eager": graph_is_exact(fused, tokens),
        }


def graph_is_exact(model: DsaModel, tokens: int) -> bool:
    """Capture ``forward``; replays with other ids and positions give the bits of an eager call, every time."""
    cache = StubPass(tokens, model.config, CUDA)
    ids = torch.zeros(tokens, dtype=torch.int64, device=CUDA)
    graph, out = capture(lambda: model.logits(model.forward(ids, cache)))
    equal = True
    for step in range(3):
        ids.copy_((torch.arange(tokens, device=CUDA) * 7 + step) % model.config.vocab_size)
        cache.positions.add_(step)
        eager = model.logits(model.forward(ids, cache)).clone()
        for _ in range(2):
            out.fill_(float("nan"))
            graph.replay()
            equal &= bool(torch.equal(out, eager))
    return equal
