"""The engine under measurement, on the CPU and the reference operations: what decodes is what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from benchmarks import decode_engine
from benchmarks.decode_engine import BenchEngine, Setting
from benchmarks.decode_locality import Locality
from benchmarks.decode_measure import measure
from benchmarks.decode_pinned import HostMemory
from benchmarks.decode_scenario import MODES, Budget, Mode, Scenario
from hisparse_engine.layout import KVLayout
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.models.hf_config import parse_config
from hisparse_engine.models.random_weights import RandomWeights
from hisparse_engine.ops import reference
from hisparse_engine.ops.interface import Operations

OPS = cast(Operations, reference)
CONTEXT, TOP_K = 400, 32
SHAPES = {
    "architectures": ["GlmMoeDsaForCausalLM"], "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32,
    "moe_intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "index_topk": TOP_K, "index_head_dim": 16,
    "index_n_heads": 4, "indexer_types": ["full", "full", "shared"], "first_k_dense_replace": 1,
    "rope_theta": 10_000.0, "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_engine, "SETTLING_STEPS", 2)
    monkeypatch.setattr(decode_engine, "HISTORY_STEPS", 30)


def make(mode: Mode, locality: Locality | None, host: HostMemory | None = None) -> tuple[BenchEngine, int]:
    config = parse_config(SHAPES, Path("config.json"))
    layout = KVLayout.from_indexer_types(config.kv_row_dim, config.index_head_dim, config.indexer_types)
    scenario = Scenario(layout, "float32", Budget(600_000, 1_000_000), 64, 80)
    pools = scenario.pools(mode, CONTEXT)
    model = DsaModel(RandomWeights(1, torch.float32, torch.device("cpu")), config)
    return BenchEngine(model, Setting(mode, CONTEXT, 80, pools, locality), OPS, host), pools.requests


@pytest.mark.parametrize("mode", MODES)
def test_all_that_fit_decode_side_by_side(mode: Mode) -> None:
    engine, most = make(mode, Locality(top_k=TOP_K, window=4, turnover=0.1))
    for concurrency in sorted({1, most}):
        engine.admit(concurrency)
        figures = measure(engine, warmup=1, steps=4)
        assert figures["tokens"] == 4 * concurrency
    assert all(request.held_seat.length > CONTEXT for request in engine.engine.scheduler.admitted)
    with pytest.raises(RuntimeError, match="were to run"):
        engine.admit(most + 1)


def test_hierarchical_mode_holds_more_requests_in_the_same_bytes() -> None:
    (resident, few), (hierarchical, many) = (make(mode, None) for mode in MODES)
    assert many > few
    assert max(resident.device_bytes, hierarchical.device_bytes) < 605_000


def test_misses_follow_the_locality_models_knob() -> None:
    def misses(turnover: float) -> float:
        engine, most = make("hierarchical", Locality(top_k=TOP_K, window=4, turnover=turnover))
        engine.admit(most)
        return float(measure(engine, warmup=1, steps=8)["misses_per_step"])

    none, few, many = misses(0.0), misses(0.05), misses(0.5)
    assert none == 0.0  # history has seated what does not change
    assert 0 < few < many / 2


def test_what_is_attended_is_what_the_locality_model_says() -> None:
    locality = Locality(top_k=TOP_K, window=4, turnover=0.3)
    engine, _ = make("hierarchical", locality)
    engine.admit(2)
    engine.step()
    hot = engine.coordinator.hot.tables
    for request in engine.engine.scheduler.admitted:
        seat: Any = request.held_seat
        lengths = torch.tensor([seat.length], dtype=torch.int32)
        name = torch.tensor([seat.stretch.start], dtype=torch.int32)
        wanted = locality.positions(name, torch.full_like(lengths, CONTEXT), lengths, 2)[:, 0]
        for group in range(2):
            slots = hot.where[group, seat.stretch.start + wanted[group].long()]
            assert bool((slots >= 0).all())
            assert bool((hot.last_use[group, slots.long()] == hot.now).all())


def test_the_host_pool_lives_in_the_memory_that_is_lent() -> None:
    host = HostMemory(1_000_000, pin=False)
    host.fill(torch.full((1000,), 7, dtype=torch.uint8))
    engine, _ = make("hierarchical", None, host)
    pool = engine.coordinator.host_pool
    assert pool.rows.data_ptr() == host.bytes.data_ptr()
    assert pool.row_bytes == pool.rows.shape[2] * 4
    assert pool.num_free == pool.capacity
    assert bool((host.bytes == 7).all())


def test_a_host_pool_that_does_not_fit_is_refused() -> None:
    with pytest.raises(MemoryError, match="does not fit"):
        make("hierarchical", None, HostMemory(100_000, pin=False))
