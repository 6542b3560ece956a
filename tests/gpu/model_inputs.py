"""What the GPU checks and timings of the model share: shapes, weights, a stub of the cache, graphs, errors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.model_shapes import deepseek_v32_config, glm5_config
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.random_weights import RandomWeights

CUDA, BF16 = torch.device("cuda"), torch.bfloat16
SHAPES = {"DeepSeek-V3.2": deepseek_v32_config, "GLM-5": glm5_config}


class OnCpu:
    """The values that the GPU's generator makes, in fp32 on the CPU: two devices' generators have nothing in common."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, source: RandomWeights) -> None:
        self._source = source

    def at(self, prefix: str) -> OnCpu:
        return OnCpu(self._source.at(prefix))

    def read(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return self._source.read(name, *shape).float().cpu()

    def read_optional(self, name: str, *shape: int, wanted: bool) -> torch.Tensor | None:
        return self.read(name, *shape) if wanted else None

    def read_into(self, out: torch.Tensor, name: str) -> None:
        out.copy_(self.read(name, *out.shape))

    def empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape)


class StubPass:
    """Selects nothing, attends by an elementwise mix of query and row: cheap, and every input matters."""

    float8_rows = False

    def __init__(self, tokens: int, config: ModelConfig, device: torch.device) -> None:
        self.positions = torch.arange(tokens, device=device) * 97 + 1000
        self._latent_dim = config.kv_lora_rank
        self._selected = torch.zeros(tokens, 8, dtype=torch.int32, device=device)
        self.seen: list[torch.Tensor] = []

    def select(self, _layer: int, *tensors: torch.Tensor) -> torch.Tensor:
        self.seen += tensors
        return self._selected

    def attend(
        self, _layer: int, query: torch.Tensor, row: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        assert positions is self._selected
        self.seen += (query, row)
        return torch.add(query[..., : self._latent_dim], row[:, None, : self._latent_dim], alpha=0.5)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖; NaN when either has one."""
    theirs = theirs.double().cpu()
    return float((ours.double().cpu() - theirs).norm() / theirs.norm().clamp(min=1e-30))


def random(*shape: int, kind: torch.dtype = BF16) -> torch.Tensor:
    return torch.randn(shape, device=CUDA).to(kind)


def capture(function: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function()
    return graph, out
