"""Norm, MLP, router and mixture of experts, against transformers' modules with the same weights."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from transformers import DeepseekV32Config
from transformers.models.deepseek_v32.modeling_deepseek_v32 import (
    DeepseekV32MLP,
    DeepseekV32MoE,
    DeepseekV32RMSNorm,
)

from hisparse_engine.models.layers import DenseMlp, MixtureOfExperts, rms_norm
from hisparse_engine.models.weights import WeightReader
from tests.support.models import TINY, tiny_config

HIDDEN, WIDTH = TINY["hidden_size"], TINY["moe_intermediate_size"]
ROUTINGS: dict[str, dict[str, Any]] = {
    "one group": {},
    "one group of two": {"n_group": 2, "topk_group": 1},
    "two groups of four": {"n_group": 4, "topk_group": 2},
    "weights as they are": {"norm_topk_prob": False, "routed_scaling_factor": 1.5},
    "two shared experts, three routed": {"n_shared_experts": 2, "num_experts_per_tok": 3},
}


class ModuleWeights:
    """Reads a transformers module's tensors under the names that a checkpoint gives them."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, tensors: dict[str, torch.Tensor], prefix: str = "") -> None:
        self._tensors, self._prefix = tensors, prefix

    def at(self, prefix: str) -> ModuleWeights:
        return ModuleWeights(self._tensors, f"{self._prefix}{prefix}.")

    def read(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        tensor = self._tensors[self._prefix + name].to(dtype or self.dtype)
        assert tensor.shape == shape
        return tensor

    def read_into(self, out: torch.Tensor, name: str) -> None:
        out.copy_(self.read(name, *out.shape))

    def empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape)


def randomised(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
    return {name: tensor.detach() for name, tensor in tensors.items()}


def checkpoint_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers stacks experts in memory; a checkpoint holds them one by one."""
    named = {name: tensor for name, tensor in tensors.items() if not name.startswith("experts.")}
    for expert, gate_up in enumerate(tensors["experts.gate_up_proj"]):
        named[f"experts.{expert}.gate_proj.weight"] = gate_up[:WIDTH]
        named[f"experts.{expert}.up_proj.weight"] = gate_up[WIDTH:]
        named[f"experts.{expert}.down_proj.weight"] = tensors["experts.down_proj"][expert]
    return named


def inputs(tokens: int) -> torch.Tensor:
    return torch.randn(tokens, HIDDEN, generator=torch.Generator().manual_seed(tokens))


@pytest.fixture(params=ROUTINGS.values(), ids=ROUTINGS.keys())
def both(request: pytest.FixtureRequest) -> tuple[MixtureOfExperts, DeepseekV32MoE]:
    theirs = DeepseekV32MoE(DeepseekV32Config(**TINY | request.param)).eval()
    weights = ModuleWeights(checkpoint_names(randomised(theirs)))
    config = tiny_config("DeepseekV32ForCausalLM", **request.param)
    return MixtureOfExperts(cast(WeightReader, weights), config), theirs


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [1, 13])
def test_mixture_of_experts_equals_transformers(
    tokens: int, both: tuple[MixtureOfExperts, DeepseekV32MoE]
) -> None:
    ours, theirs = both
    x = inputs(tokens)
    torch.testing.assert_close(ours(x), theirs(x[None])[0], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_router_stays_within_its_groups_and_scales_its_weights(
    both: tuple[MixtureOfExperts, DeepseekV32MoE],
) -> None:
    ours, theirs = both
    experts, weights = ours.router(inputs(50))
    config = theirs.config
    groups = experts // (config.n_routed_experts // config.n_group)
    assert all(len(row.unique()) <= config.topk_group for row in groups)
    assert all(len(row.unique()) == config.num_experts_per_tok for row in experts)
    if config.norm_topk_prob:
        torch.testing.assert_close(weights.sum(dim=1), torch.full((50,), float(config.routed_scaling_factor)))


@torch.inference_mode()
def test_the_selection_bias_chooses_experts_but_does_not_weigh_them() -> None:
    theirs = DeepseekV32MoE(DeepseekV32Config(**TINY)).eval()
    tensors = checkpoint_names(randomised(theirs))
    tensors["gate.e_score_correction_bias"][:] = torch.tensor([9.0, 9.0, 0, 0, 0, 0, 0, 0])
    ours = MixtureOfExperts(cast(WeightReader, ModuleWeights(tensors)), tiny_config())
    experts, weights = ours.router(inputs(20))
    assert set(experts.flatten().tolist()) == {0, 1}
    scores = torch.sigmoid(inputs(20) @ tensors["gate.weight"].T)[:, :2]
    expected = 2.5 * scores / scores.sum(dim=1, keepdim=True)
    torch.testing.assert_close(weights, expected.gather(1, experts), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_dense_mlp_equals_transformers() -> None:
    config = DeepseekV32Config(**TINY)
    theirs = DeepseekV32MLP(config).eval()
    weights = cast(WeightReader, ModuleWeights(randomised(theirs)))
    ours = DenseMlp(weights, HIDDEN, TINY["intermediate_size"])
    torch.testing.assert_close(ours(inputs(4)), theirs(inputs(4)), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rms_norm_equals_transformers(dtype: torch.dtype) -> None:
    theirs = DeepseekV32RMSNorm(HIDDEN, eps=1e-5).to(dtype)
    randomised(theirs)
    x = inputs(4).to(dtype)
    assert torch.equal(rms_norm(x, theirs.weight, 1e-5), theirs(x))
