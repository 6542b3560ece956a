"""The plan is what is allocated, to the byte; budgets are kept and used up; concurrency is what admission grants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.coordinator import HiSparseCoordinator
from hisparse_engine.decoding.backend import eager_coordinator
from hisparse_engine.layout import KVLayout, PoolSizes
from hisparse_engine.loading import DTYPES
from hisparse_engine.memory_plan import GIB, MemoryPlan, TokenBytes
from hisparse_engine.resident import ResidentCoordinator
from hisparse_engine.row_format import ComputedRows, Float8Rows, RowFormat
from hisparse_engine.settings.budgets import fill, in_bytes
from hisparse_engine.settings.given import Problem
from hisparse_engine.settings.models import TierSettings


@st.composite
def layouts(draw: st.DrawFn) -> KVLayout:
    kinds = ["full", *draw(st.lists(st.sampled_from(["full", "shared"]), max_size=5))]
    layout = KVLayout.from_indexer_types(draw(st.integers(1, 40)), draw(st.integers(1, 20)), kinds)
    return layout._replace(float8_rows=draw(st.booleans()))


sizes_of_pools = st.builds(
    PoolSizes,
    device_tokens=st.integers(1, 60),
    host_tokens=st.integers(1, 90),
    index_tokens=st.integers(1, 90),
    device_buffer_size=st.integers(1, 30),
)
dtypes = st.sampled_from(["float32", "bfloat16"])
modes = st.booleans()


@dataclass(frozen=True)
class Cache:
    """A plan, and the coordinator whose pools it plans."""

    plan: MemoryPlan
    coordinator: HiSparseCoordinator | ResidentCoordinator

    @classmethod
    def of(cls, layout: KVLayout, sizes: PoolSizes, dtype: str, *, resident: bool) -> Cache:
        config = EngineConfig.parse(mode="resident" if resident else "hierarchical")
        stored: RowFormat = ComputedRows(DTYPES[dtype])
        if layout.float8_rows:
            stored = Float8Rows(layout.row_dim, 0)  # its shape is the layout's
        coordinator = eager_coordinator(config, layout, sizes, torch.device("cpu"), DTYPES[dtype], stored)
        return cls(
            MemoryPlan(sizes, TokenBytes.of(layout, dtype, resident=resident), resident, 1000), coordinator
        )


@settings(deadline=None)
@given(layouts(), sizes_of_pools, dtypes, modes)
def test_the_plan_is_what_the_engine_allocates(
    layout: KVLayout, sizes: PoolSizes, dtype: str, resident: bool
) -> None:
    cache = Cache.of(layout, sizes, dtype, resident=resident)
    coordinator, parts = cache.coordinator, {part.name: part.num_bytes for part in cache.plan.parts()}
    rows, keys = coordinator.device_pool.rows.nbytes, coordinator.index_keys.pool.rows.nbytes
    assert parts.pop("index keys") == keys
    if isinstance(coordinator, ResidentCoordinator):
        assert parts == {"KV rows": rows}
        assert (cache.plan.device_bytes, cache.plan.host_bytes) == (rows + keys, 0)
        return
    one_map = coordinator.residency.new_map(sizes.index_tokens).nbytes
    assert parts == {
        "hot buffers": rows,
        "residency by slot": coordinator.residency.num_bytes,
        "residency by token": one_map,
        "host pool": coordinator.host_pool.rows.nbytes,
    }
    assert cache.plan.device_bytes == rows + keys + coordinator.residency.num_bytes + one_map
    assert cache.plan.host_bytes == coordinator.host_pool.rows.nbytes


@settings(deadline=None)
@given(layouts(), sizes_of_pools, dtypes, modes, st.integers(1, 90))
@example(
    KVLayout(4, 2, (0,)), PoolSizes(45, 90, 90, 9), "float32", False, 11
)  # a buffer is 9 and the newest token's
@example(KVLayout(4, 2, (0,)), PoolSizes(45, 90, 90, 9), "float32", False, 7)
def test_concurrency_is_what_admission_grants(
    layout: KVLayout, sizes: PoolSizes, dtype: str, resident: bool, context: int
) -> None:
    cache = Cache.of(layout, sizes, dtype, resident=resident)
    admitted = 0
    while cache.coordinator.can_admit(context):
        cache.coordinator.admit(context)
        admitted += 1
    assert cache.plan.concurrency(context) == admitted
    shortfall = cache.coordinator.shortfall(context)
    first = next(cache.plan.needs(context))
    assert (shortfall is None) == (admitted > 0) == (first.requests > 0)
    if admitted:
        scarcest = {
            "host pool": sizes.host_tokens,
            "device pool": sizes.device_tokens,
            "index keys": sizes.index_tokens,
        }
        assert first.capacity == scarcest[first.resource]


@given(
    layouts(),
    dtypes,
    modes,
    st.integers(1, 1 << 24),
    st.one_of(st.none(), st.integers(1, 1 << 22)),
    st.one_of(st.none(), st.integers(1, 300)),
    st.integers(1, 50),
)
def test_a_budget_is_kept_and_used_up(
    layout: KVLayout,
    dtype: str,
    resident: bool,
    device_bytes: int,
    host_bytes: int | None,
    index_tokens: int | None,
    top_k: int,
) -> None:
    mode = "resident" if resident else "hierarchical"
    token = TokenBytes.of(layout, dtype, resident=resident)
    tiers = TierSettings(
        device_memory_gib=device_bytes / GIB,
        host_memory_gib=None if host_bytes is None else host_bytes / GIB,
        index_tokens=index_tokens,
    )
    assert in_bytes(device_bytes / GIB) == device_bytes
    filled = fill(tiers, token, resident=resident, least_buffer=top_k)
    if isinstance(filled, Problem):
        return
    sizes = filled.resolve(mode=mode, top_k=top_k, max_running_requests=4)  # type: ignore[arg-type]
    plan = MemoryPlan(sizes, token, resident, 4)
    assert plan.device_bytes <= device_bytes
    one_more = token.device_slot
    if index_tokens is None and (resident or host_bytes is None):
        one_more += (1 if resident else 8) * token.device_home
    assert plan.device_bytes + one_more > device_bytes
    if not resident:
        assert sizes.device_tokens > sizes.device_buffer_size >= top_k
        if host_bytes is not None:
            assert plan.host_bytes <= host_bytes < plan.host_bytes + token.kv_rows


def test_index_keys_of_the_whole_host_pool_go_before_hot_buffers() -> None:
    layout = KVLayout(row_dim=100, index_dim=10, group_of_layer=(0, 0, 1, 1))
    token = TokenBytes.of(layout, "bfloat16", resident=False)
    assert token == TokenBytes(kv_rows=800, index_keys=40, residency_slot=24, residency_token=8)
    budget = 1000 * 48 + 50 * 824 + 823
    tiers = TierSettings(host_tokens=1000, device_memory_gib=budget / GIB)
    assert fill(tiers, token, resident=False, least_buffer=16) == HiSparseConfig(
        host_tokens=1000, device_tokens=50
    )


def test_a_budget_without_room_for_one_hot_buffer_says_what_would_do() -> None:
    layout = KVLayout(row_dim=576, index_dim=128, group_of_layer=tuple(range(60)))
    token = TokenBytes.of(layout, "bfloat16", resident=False)
    given_tiers = {"host_tokens": 1_000_000, "device_memory_gib": 14.0}
    refused = fill(TierSettings(**given_tiers), token, resident=False, least_buffer=2048)
    assert isinstance(refused, Problem)
    assert refused.path == ("hisparse", "device_memory_gib")
    assert refused.text.startswith(
        "got 14, which is too little for one hot buffer of 2049 tokens beside the index keys of"
    )
    remedy = float(refused.text.split("; set ")[1].split(" ")[0])
    enough = fill(
        TierSettings(**given_tiers | {"device_memory_gib": remedy}), token, resident=False, least_buffer=2048
    )
    assert isinstance(enough, HiSparseConfig)
    assert enough.device_tokens is not None
    assert enough.device_tokens >= 2049


def test_what_bounds_requests_can_be_their_number() -> None:
    token = TokenBytes(8, 2, 1, 1)
    plan = MemoryPlan(PoolSizes(1000, 1000, 1000, 10), token, resident=False, max_running_requests=3)
    assert [need.resource for need in plan.needs(100)][:2] == ["running requests", "host pool"]
    assert plan.concurrency(100) == 3
    assert plan.resident_concurrency(100) == (1000 * (8 + 1) + 1000 * (2 + 1)) // (10 * 100)
