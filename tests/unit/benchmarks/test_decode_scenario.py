"""The scenario's arithmetic: both modes within the same bytes, and no cell that does not fit."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from benchmarks.decode_scenario import MODES, Budget, Mode, Scenario, cells, most_layers, weight_bytes
from benchmarks.model_shapes import deepseek_v32_config, glm5_config
from hisparse_engine.layout import KVLayout
from hisparse_engine.table_coordinator import TableHiSparseCoordinator
from hisparse_engine.table_resident import TableResidentCoordinator

CONTEXTS = (8192, 32_768, 131_072)


def scenario(layers: int = 16, every: int = 4, device: float = 12.0, host: float = 80.0) -> Scenario:
    config = glm5_config(layers, 32, indexer_every=every)
    layout = KVLayout.from_indexer_types(config.kv_row_dim, config.index_head_dim, config.indexer_types)
    return Scenario(layout, "bfloat16", Budget.of_gib(device, host), 4096, 256)


def allocated(coordinator: TableHiSparseCoordinator | TableResidentCoordinator) -> int:
    """Device bytes of every tensor that a coordinator holds, workspace of a few kilobytes aside."""
    tensors = [
        coordinator.device_pool.rows,
        coordinator.index_keys.pool.rows,
        *vars(coordinator.requests.tokens).values(),
    ]
    if isinstance(coordinator, TableHiSparseCoordinator):
        tensors += [*vars(coordinator.hot.tables).values(), coordinator.scratch]
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("every", [1, 4])
def test_what_the_engine_allocates_is_the_budget(mode: Mode, every: int) -> None:
    config = glm5_config(8, 32, indexer_every=every)
    layout = KVLayout.from_indexer_types(576, 128, config.indexer_types)
    tested = Scenario(layout, "bfloat16", Budget(30_000_000, 150_000_000), 256, 24)
    pools = tested.pools(mode, 1000)
    common: dict[str, Any] = {
        "max_running": pools.requests,
        "max_length": 1024,
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
    }
    ops = cast(Any, None)  # nothing is computed
    if mode == "resident":
        used = allocated(TableResidentCoordinator(layout, pools.sizes, ops, **common))
    else:
        coordinator = TableHiSparseCoordinator(layout, pools.sizes, ops, **common)
        used = allocated(coordinator)
        assert coordinator.host_pool.rows.nbytes <= 150_000_000
        assert pools.requests > tested.pools("resident", 1000).requests
    assert (
        0.6 * 30_000_000 < used <= 30_001_000
    )  # resident mode leaves what is too little for one request more


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_host_tier_runs_more_requests_the_more_so_the_longer_they_are(context: int) -> None:
    tested = scenario()
    ratio = tested.pools("hierarchical", context).requests / tested.pools("resident", context).requests
    assert ratio > {8192: 1.5, 32_768: 5.0, 131_072: 7.0}[context]


def test_every_request_finds_a_hot_buffer_and_a_home() -> None:
    for context in CONTEXTS:
        pools = scenario().pools("hierarchical", context)
        assert pools.sizes.device_tokens >= pools.requests * 4097
        assert pools.sizes.host_tokens == pools.requests * (context + 256)


def test_cells_are_those_wanted_that_fit_and_the_most_that_fits() -> None:
    tested = scenario()
    found = list(cells(tested, (131_072,), (1, 2, 16, 512)))
    resident = [cell.concurrency for cell in found if cell.mode == "resident"]
    hierarchical = [cell.concurrency for cell in found if cell.mode == "hierarchical"]
    assert resident == [1, 2, tested.pools("resident", 131_072).requests]
    assert hierarchical == [1, 2, 16, tested.pools("hierarchical", 131_072).requests]
    assert list(cells(scenario(device=0.05), (131_072,), (1,))) == []


@pytest.mark.parametrize(
    ("config", "billions"), [(deepseek_v32_config(61), (671, 675)), (glm5_config(78), (740, 755))]
)
def test_weights_of_the_released_shapes_are_as_large_as_published(
    config: object, billions: tuple[int, int]
) -> None:
    parameters = weight_bytes(config).total(config) / 2e9  # type: ignore[arg-type]
    assert billions[0] < parameters < billions[1]


def test_most_layers_is_what_fits() -> None:
    config = glm5_config(8, 32)
    layers = most_layers(config, 60_000_000_000)
    fits, over = (weight_bytes(c).total(c) for c in (glm5_config(layers, 32), glm5_config(layers + 1, 32)))
    assert fits <= 60_000_000_000 < over
