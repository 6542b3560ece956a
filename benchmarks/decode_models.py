"""The models that `decode.py` measures: released attention shapes, random weights, any number of layers and experts."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.model_shapes import deepseek_v32_config, glm5_config
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.models.random_weights import RandomWeights

MODELS: dict[str, Callable[[int, int], ModelConfig]] = {
    "glm5": lambda layers, experts: glm5_config(layers, experts, first_dense=1),
    "glm5.2": lambda layers, experts: glm5_config(layers, experts, first_dense=1, indexer_every=4),
    "v32": lambda layers, experts: deepseek_v32_config(layers, experts, first_dense=1),
}
"""Name → config of (layers, experts a layer). The first layer is dense; GLM-5.2 shares the indexer of one layer in four."""

COMMON_DIRECTION = 2.0
"""What all embeddings share, in standard deviations of what tells them apart; without it the own indexer selects anew."""


@torch.inference_mode()
def random_model(config: ModelConfig, device: torch.device) -> DsaModel:
    """Make a model in bf16 on ``device``, whose hidden states share a direction as a trained model's do."""
    model = DsaModel(RandomWeights(1, torch.bfloat16, device), config)
    generator = torch.Generator(device).manual_seed(2)
    common = torch.randn(config.hidden_size, generator=generator, device=device, dtype=torch.bfloat16)
    model.embedding += COMMON_DIRECTION * common
    return model
