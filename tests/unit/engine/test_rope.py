"""Rotary embedding against transformers' own functions, plain and YaRN, both layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DeepseekV32Config
from transformers.models.deepseek_v32.modeling_deepseek_v32 import (
    DeepseekV32RotaryEmbedding,
    apply_rotary_pos_emb,
    apply_rotary_pos_emb_interleave,
)

from hisparse_engine.models.rope import RotaryEmbedding, rotate
from tests.support.models import TINY, tiny_config

DIM = TINY["qk_rope_head_dim"]
POSITIONS = torch.tensor([0, 1, 7, 127, 128, 511])
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 128}
ROPES: dict[str, dict[str, Any]] = {
    "plain": {"rope_type": "default", "rope_theta": 10_000.0},
    "plain, another theta": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "yarn": YARN,
    "yarn, mscale over all dimensions": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0},
    "yarn, other betas": {**YARN, "beta_fast": 8, "beta_slow": 2},
    "yarn, not rounded": {**YARN, "truncate": False},
    "yarn, explicit attention factor": {**YARN, "attention_factor": 1.3},
}


@pytest.fixture(params=ROPES.values(), ids=ROPES.keys())
def rope_parameters(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def our_angles(rope_parameters: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    config = tiny_config(rope_parameters=rope_parameters)
    return RotaryEmbedding(config.rope, DIM, torch.device("cpu"))(POSITIONS)


def their_angles(rope_parameters: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    theirs = DeepseekV32RotaryEmbedding(DeepseekV32Config(**TINY, rope_parameters=dict(rope_parameters)))
    return theirs(torch.zeros(1), POSITIONS[None])


def test_angles_equal_transformers(rope_parameters: dict[str, Any]) -> None:
    for ours, theirs in zip(our_angles(rope_parameters), their_angles(rope_parameters), strict=True):
        torch.testing.assert_close(ours, theirs[0, :, : DIM // 2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("interleaved", [True, False], ids=["interleaved", "half split"])
def test_rotation_equals_transformers(interleaved: bool, rope_parameters: dict[str, Any]) -> None:
    x = torch.randn(len(POSITIONS), 3, DIM, generator=torch.Generator().manual_seed(0))
    cos, sin = their_angles(rope_parameters)
    apply = apply_rotary_pos_emb_interleave if interleaved else apply_rotary_pos_emb
    theirs, _ = apply(x[None], x[None], cos, sin, unsqueeze_dim=2)
    ours = rotate(x, *our_angles(rope_parameters), interleaved=interleaved)
    torch.testing.assert_close(ours, theirs[0], rtol=1e-4, atol=1e-4)


def test_only_distance_matters_to_a_dot_product() -> None:
    rope = RotaryEmbedding(tiny_config().rope, DIM, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 1, DIM, generator=generator), torch.randn(1, 1, DIM, generator=generator)

    def score(at: int, of: int) -> float:
        turned = [rotate(x, *rope(torch.tensor([p])), interleaved=True) for x, p in ((query, at), (key, of))]
        return float((turned[0] * turned[1]).sum())

    assert score(90, 70) == pytest.approx(score(25, 5), abs=1e-4)
    assert score(90, 70) != pytest.approx(score(90, 71), abs=1e-2)
