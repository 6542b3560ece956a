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
"""What embeddings can be made to share, in standard deviations of what tells them apart."""


@torch.inference_mode()
def random_model(config: ModelConfig, device: torch.device) -> DsaModel:
    """Make a model in bf16 on ``device``; its router spreads tokens evenly, for nothing is common to them."""
    return DsaModel(RandomWeights(1, torch.bfloat16, device), config)


@torch.inference_mode()
def share_direction(model: DsaModel) -> None:
    """Give all hidden states a direction in common, as a trained model's have: without it its indexer selects anew.

    Tokens then go through fewer experts than a balanced router would send them to.
    """
    generator = torch.Generator(model.device).manual_seed(2)
    width = model.config.hidden_size
    common = torch.randn(width, generator=generator, device=model.device, dtype=model.embedding.dtype)
    model.embedding += COMMON_DIRECTION * common
