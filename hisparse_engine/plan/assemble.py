"""Puts the plan together: shapes and settings → everything that memory is taken for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hisparse_engine.config import EngineSettings
from hisparse_engine.layout import KVLayout, PoolSizes
from hisparse_engine.memory_plan import GIB, MemoryPlan, Part, TokenBytes
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.weight_sizes import weigh_config
from hisparse_engine.plan.step import StepShapes, step_parts

RESERVE_BYTES = 3 * GIB // 2
"""What CUDA's context, compiled kernels, graphs and the allocator's slack are taken to need."""


@dataclass(frozen=True)
class Blueprint:
    """All that a plan follows from, but for the sizes of the pools and the mode.

    ``weights`` in bytes. ``tables``: residency in device tables, and a step as on a GPU; else the reference on the
    CPU, whose step takes what it needs as it goes.
    """

    model: ModelConfig
    dtype: str
    weights: int
    prefill_chunk: int
    tables: bool = True
    reserve: int = RESERVE_BYTES

    @property
    def layout(self) -> KVLayout:
        """The shapes of what is cached."""
        model = self.model
        return KVLayout.from_indexer_types(model.kv_row_dim, model.index_head_dim, model.indexer_types)

    def token(self, *, resident: bool) -> TokenBytes:
        """Return what a token takes in one mode."""
        return TokenBytes.of(self.layout, self.dtype, resident=resident, tables=self.tables)

    def plan(self, sizes: PoolSizes, max_running: int, *, resident: bool) -> MemoryPlan:
        """Return the plan for pools of ``sizes``."""
        token = self.token(resident=resident)
        if not self.tables:
            return MemoryPlan(sizes, token, resident, max_running, beside=(self._weights(),))
        shapes = StepShapes(
            self.model, self.layout, sizes, self.dtype, resident, max_running, self.prefill_chunk
        )
        return MemoryPlan(
            sizes, token, resident, max_running, shapes.table_tokens, tuple(self._beside(shapes))
        )

    def _weights(self) -> Part:
        return Part("weights", "device", self.weights, group="weights")

    def _beside(self, shapes: StepShapes) -> Iterator[Part]:
        yield self._weights()
        yield from step_parts(shapes)
        yield Part("reserve for CUDA", "device", self.reserve, group="reserve")


def blueprint_of(model: ModelConfig, engine: EngineSettings) -> Blueprint:
    """Return what an engine with these settings follows; its weights are weighed by the shapes in ``model``."""
    on_gpu = engine.device == "cuda"
    weights = weigh_config(model, engine.dtype, fused=on_gpu).num_bytes
    return Blueprint(model, engine.dtype, weights, engine.prefill_chunk_size, tables=on_gpu)
