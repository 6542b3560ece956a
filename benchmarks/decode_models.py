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


@torch.inference_mode()
def random_model(config: ModelConfig, device: torch.device) -> DsaModel:
    """Make a model in bf16 on ``device``."""
    return DsaModel(RandomWeights(1, torch.bfloat16, device), config)
