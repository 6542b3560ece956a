"""Puts the plan together: shapes and settings → everything that memory is taken for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hisparse_engine.config import EngineSettings
from hisparse_engine.layout import KVCacheDtype, KVLayout, PoolSizes
from hisparse_engine.memory_plan import GIB, ITEM_BYTES, MemoryPlan, Part, TokenBytes
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.models.weight_sizes import weigh_config
from hisparse_engine.plan.step import StepShapes, step_parts

RESERVE_BYTES = 3 * GIB // 2
"""What CUDA's context, compiled kernels, graphs and the allocator's slack are taken to need."""


@dataclass(frozen=True)
class Blueprint:
    """All that a plan follows from, but for the sizes of the pools and the mode.

    ``weights`` and ``reserve`` in bytes. ``tables``: residency in device tables, and a step in CUDA graphs; else the
    reference path, whose step takes what it needs as it goes. ``kv_cache_dtype``, ``float8_keys``: how KV rows and
    index keys are stored.
    """

    model: ModelConfig
    dtype: str
    weights: int
    prefill_chunk: int
    tables: bool = True
    kv_cache_dtype: KVCacheDtype = "auto"
    float8_keys: bool = False
    reserve: int = RESERVE_BYTES

    @property
    def layout(self) -> KVLayout:
        """The shapes of what is cached."""
        return KVLayout.of_model(self.model, self.kv_cache_dtype)

    def token(self, *, resident: bool) -> TokenBytes:
        """Return what a token takes in one mode."""
        return TokenBytes.of(
            self.layout, self.dtype, resident=resident, tables=self.tables, float8_keys=self.float8_keys
        )

    def plan(self, sizes: PoolSizes, max_running: int, *, resident: bool) -> MemoryPlan:
        """Return the plan for pools of ``sizes``."""
        token = self.token(resident=resident)
        shapes = StepShapes(
            self.model, self.layout, sizes, self.dtype, resident, max_running, self.prefill_chunk
        )
        entries = shapes.table_tokens if self.tables else None
        return MemoryPlan(sizes, token, resident, max_running, entries, tuple(self._beside(shapes)))

    def _beside(self, shapes: StepShapes) -> Iterator[Part]:
        yield Part("weights", "device", self.weights, group="weights")
        if self.tables:
            yield from step_parts(shapes)
        if self.reserve:
            yield Part("reserve for CUDA", "device", self.reserve, group="reserve")


def blueprint_of(
    model: ModelConfig,
    engine: EngineSettings,
    *,
    weights: int | None = None,
    reserve: int = RESERVE_BYTES,
) -> Blueprint:
    """Return what an engine with these settings follows; ``weights`` are weighed by the shapes in ``model`` unless given.

    On a GPU it has device tables unless something keeps it from using its kernels (``decoding.backend``);
    :class:`ConfigError` when the model's rows cannot be stored as ``kv_cache_dtype`` says.
    """
    on_gpu, dtype = engine.device == "cuda", engine.dtype_for(model.dtype)
    if weights is None:
        weights = weigh_config(model, dtype, fused=on_gpu).num_bytes
    unfit = KVLayout.of_model(model, engine.kv_cache_dtype).unfit_for_kernels(
        ITEM_BYTES[dtype], model.kv_lora_rank
    )
    fast = on_gpu and engine.kernels == "auto" and dtype == "bfloat16" and unfit is None
    return Blueprint(
        model,
        dtype,
        weights,
        engine.prefill_chunk_size,
        tables=fast,
        kv_cache_dtype=engine.kv_cache_dtype,
        float8_keys=engine.index_key_dtype == "float8",
        reserve=reserve if on_gpu else 0,
    )
