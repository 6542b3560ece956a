"""Router scores to experts on CUDA: sigmoid, selection bias, group limit, top-k and weights in one kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hisparse_engine.ops.gpu.overlap import OVERLAPPED, wait_for_inputs


@dataclass(frozen=True)
class Routing:
    """How a token's experts are chosen."""

    num_experts: int
    groups: int
    kept_groups: int
    choices: int
    shared: int
    """Experts that every token goes through as well, with weight 1: their ids follow the routed ones'."""
    normalised: bool
    scale: float


def route(logits: torch.Tensor, bias: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (expert ids int32, weights fp32), each ``[tokens, choices + shared]``; the routed come best first.

    ``logits`` fp32 ``[tokens, splits, parts · num_experts]``: a logit is the sum over both. ``bias`` fp32
    ``[num_experts]`` is added to the sigmoid for the choice, not for the weight. Of equals the smaller id is chosen.
    """
    tokens, per_token = len(logits), routing.choices + routing.shared
    experts = torch.empty(tokens, per_token, dtype=torch.int32, device=logits.device)
    weights = torch.empty(tokens, per_token, dtype=torch.float32, device=logits.device)
    if tokens:
        _route_kernel[(tokens,)](
            logits,
            bias,
            experts,
            weights,
            routing.scale,
            EXPERTS=routing.num_experts,
            PARTS=logits.shape[1] * logits.shape[2] // routing.num_experts,
            GROUPS=routing.groups,
            KEPT=routing.kept_groups,
            CHOICES=routing.choices,
            SHARED=routing.shared,
            NORMALISED=routing.normalised,
            GROUP_LANES=triton.next_power_of_2(routing.groups),
            LANES=triton.next_power_of_2(routing.num_experts // routing.groups),
            OUT_LANES=triton.next_power_of_2(per_token),
            num_warps=1,
            **OVERLAPPED,
        )
    return experts, weights


@triton.jit
def _route_kernel(
    logits,
    bias,
    experts,
    weights,
    factor,
    EXPERTS: tl.constexpr,
    PARTS: tl.constexpr,
    GROUPS: tl.constexpr,
    KEPT: tl.constexpr,
    CHOICES: tl.constexpr,
    SHARED: tl.constexpr,
    NORMALISED: tl.constexpr,
    GROUP_LANES: tl.constexpr,
    LANES: tl.constexpr,
    OUT_LANES: tl.constexpr,
    PDL: tl.constexpr,
):
    wait_for_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, GROUP_LANES)[:, None]
    lane = tl.arange(0, LANES)[None, :]
    expert = group * (EXPERTS // GROUPS) + lane
    real = (group < GROUPS) & (lane < EXPERTS // GROUPS)
    logit = tl.zeros([GROUP_LANES, LANES], dtype=tl.float32)
    for part in tl.static_range(PARTS):
        logit += tl.load(logits + (row * PARTS + part) * EXPERTS + expert, mask=real, other=0.0)
    score = 1.0 / (1.0 + tl.exp(-logit))
    choice = tl.where(real, score + tl.load(bias + expert, mask=real, other=0.0), float("-inf"))
    if KEPT < GROUPS:
        best = tl.max(choice, axis=1)
        is_best = lane == tl.argmax(choice, axis=1)[:, None]
        worth = best + tl.max(tl.where(is_best, float("-inf"), choice), axis=1)
        kept = tl.zeros([GROUP_LANES], dtype=tl.int32)
        index = tl.arange(0, GROUP_LANES)
        for _ in tl.static_range(KEPT):
            taken = index == tl.argmax(worth, axis=0)
            kept = tl.where(taken, 1, kept)
            worth = tl.where(taken, float("-inf"), worth)
        choice = tl.where(kept[:, None] > 0, choice, float("-inf"))
    out = tl.arange(0, OUT_LANES)
    chosen = tl.where(out < CHOICES, 0, out - CHOICES + EXPERTS)
    weight = tl.zeros([OUT_LANES], dtype=tl.float32)
    for i in tl.static_range(CHOICES):
        top = tl.max(tl.max(choice, axis=1), axis=0)
        first = tl.min(tl.min(tl.where(choice == top, expert, EXPERTS - 1), axis=1), axis=0)
        chosen = tl.where(out == i, first, chosen)
        own = tl.sum(tl.sum(tl.where(expert == first, tl.where(real, score, 0.0), 0.0), axis=1), axis=0)
        weight = tl.where(out == i, own, weight)
        choice = tl.where(expert == first, float("-inf"), choice)
    if NORMALISED:
        weight = weight / (tl.sum(weight, axis=0) + 1e-20)
    weight = tl.where(out < CHOICES, weight * factor, 1.0)
    inside = out < CHOICES + SHARED
    tl.store(experts + row * (CHOICES + SHARED) + out, chosen, mask=inside)
    tl.store(weights + row * (CHOICES + SHARED) + out, weight, mask=inside)
