"""What a GPU engine allocates at start is what its plan says, to the byte: pools, tables and the step's buffers."""

from __future__ import annotations

import time
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_engine.config import EngineConfig
from hisparse_engine.decoding.backend import table_backend
from hisparse_engine.layout import KVLayout, PoolSizes
from hisparse_engine.memory_plan import GIB, MemoryPlan
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.ops import reference
from hisparse_engine.plan import step
from hisparse_engine.plan.assemble import Blueprint
from hisparse_engine.settings.budgets import fill
from hisparse_engine.settings.given import Problem
from hisparse_engine.settings.models import TierSettings
from tests.support.allocations import tensor_bytes
from tests.support.models import TOP_K, tiny_config, tiny_model

ON_GPU_ONLY = {"results of CUDA graphs", "activations (estimate)", "sampling (estimate)"}
"""Parts of a step that nobody allocates at start on the CPU."""
LARGE = 64 << 20


@st.composite
def worlds(draw: st.DrawFn) -> tuple[ModelConfig, PoolSizes]:
    model = tiny_config(
        num_hidden_layers=draw(st.integers(1, 4)),
        index_topk_freq=draw(st.integers(1, 3)),
        max_position_embeddings=draw(st.integers(1, 600)),
        index_topk=TOP_K,
        kv_lora_rank=128,
    )
    buffer = draw(st.integers(TOP_K, 40))
    sizes = PoolSizes(
        device_tokens=draw(st.integers(buffer + 1, 900)),
        host_tokens=draw(st.integers(1, 900)),
        index_tokens=draw(st.integers(1, 900)),
        device_buffer_size=buffer,
    )
    return model, sizes


def backend_of(model: ModelConfig, config: EngineConfig, sizes: PoolSizes) -> Any:
    made = tiny_model(
        dtype=torch.bfloat16 if config.dtype == "bfloat16" else torch.float32,
        num_hidden_layers=model.num_hidden_layers,
        indexer_types=list(model.indexer_types),
        max_position_embeddings=model.max_position_embeddings,
        kv_lora_rank=model.kv_lora_rank,
    )
    layout = KVLayout.of_model(model, config.kv_cache_dtype)
    backend = table_backend(made, config, layout, sizes, time.perf_counter, reference)
    return backend, made


@settings(deadline=None, max_examples=40)
@given(
    worlds(),
    st.sampled_from(["float32", "bfloat16"]),
    st.booleans(),
    st.sampled_from(["auto", "float8"]),
    st.booleans(),
    st.integers(1, 300),
)
def test_the_plan_is_what_a_table_backend_allocates(
    world: tuple[ModelConfig, PoolSizes],
    dtype: str,
    resident: bool,
    rows: Literal["auto", "float8"],
    float8: bool,
    running: int,
) -> None:
    model, sizes = world
    config = EngineConfig.parse(
        mode="resident" if resident else "hierarchical",
        dtype=dtype,
        max_running_requests=running,
        kv_cache_dtype=rows,
        index_key_dtype="float8" if float8 else "model",
    )
    blueprint = Blueprint(model, dtype, 0, 1, kv_cache_dtype=rows, float8_keys=float8, reserve=0)
    plan = blueprint.plan(sizes, running, resident=resident)
    backend, made = backend_of(model, config, sizes)
    planned = sum(part.num_bytes for part in plan.all_parts() if part.name not in ON_GPU_ONLY)
    assert planned == tensor_bytes(backend, without=(made,))
    assert plan.host_bytes == (0 if resident else backend.coordinator.host_pool.rows.nbytes)


def test_graphs_leave_logits_tokens_and_home_slots() -> None:
    model = tiny_config()
    sizes = PoolSizes(40, 40, 40, TOP_K)
    parts = {p.name: p.num_bytes for p in plan_of(model, sizes, running=5).all_parts()}
    one = 256 * 2 + 8 + 3 * 4  # logits in bf16, token, inputs
    assert parts["results of CUDA graphs"] == 2 * (1 + 2 + 4 + 5) * one


def plan_of(model: ModelConfig, sizes: PoolSizes, *, running: int) -> MemoryPlan:
    return Blueprint(model, "bfloat16", 0, 512).plan(sizes, running, resident=False)


@pytest.mark.parametrize("heads", [4, 16, 32, 64, 128])
@pytest.mark.parametrize("top_k", [16, 2048, 4096])
def test_the_estimate_of_attention_shares_bounds_what_attention_chooses(heads: int, top_k: int) -> None:
    pytest.importorskip("triton")
    from hisparse_engine.ops.gpu.attention_rules import Device, choose_shares, choose_tiling

    for device in (Device(132, True, True), Device(132, True, False), Device(132, False, False)):
        tiling = choose_tiling(heads, 576, 512, top_k, torch.bfloat16, device)
        for tokens in (*range(1, 66), 96, 128, 199, 231, 256, 297, 363, 397, 462, 512, 793, 1024, 1585, 2048):
            shares = choose_shares(tokens, heads, top_k, tiling, device)
            left = 4 * tokens * shares * heads * (512 + 1) if shares > 1 else 0
            assert left <= step.attention_shares(heads, 512, top_k, tokens)


@given(worlds(), st.integers(1, LARGE), st.integers(1, LARGE), st.booleans())
def test_a_budget_for_the_cache_is_kept(
    world: tuple[ModelConfig, PoolSizes], device_bytes: int, host_bytes: int, resident: bool
) -> None:
    model, _ = world
    blueprint = Blueprint(model, "bfloat16", 0, 512)
    tiers = TierSettings(device_memory_gib=device_bytes / GIB, host_memory_gib=host_bytes / GIB)
    filled = fill(tiers, blueprint.token(resident=resident), resident=resident, least_buffer=TOP_K)
    if isinstance(filled, Problem):
        return
    sizes = filled.resolve(
        mode="resident" if resident else "hierarchical", top_k=TOP_K, max_running_requests=8
    )
    assert blueprint.plan(sizes, 8, resident=resident).device_bytes <= device_bytes
