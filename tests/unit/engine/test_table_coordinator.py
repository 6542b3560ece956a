"""The cache over device tables by example: elastic hot buffers, the backup's way home, places in the tables."""

from __future__ import annotations

from typing import Any

import pytest

from hisparse_engine.elastic_buffers import GROWTH_SLOTS
from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.device_tables import RequestTables
from hisparse_engine.ops.tables import NONE
from hisparse_engine.request import Request, SamplingParams, Status
from hisparse_engine.table_coordinator import TableHiSparseCoordinator
from tests.support.models import BACKENDS, TOP_K, RecordingEngine, engine_config, random_prompt, tiny_model

MODEL = tiny_model(seed=5, max_position_embeddings=2048)
PROMPT = 700


def make(device_tokens: int, **fields: Any) -> tuple[RecordingEngine, TableHiSparseCoordinator]:
    sizes = {"device_buffer_size": TOP_K, "device_tokens": device_tokens, "host_tokens": 4096}
    config = engine_config(hisparse=sizes, prefix_reuse=False, verify_every=1, **fields)
    engine = RecordingEngine(MODEL, config, backend=BACKENDS["tables"])
    assert isinstance(engine.coordinator, TableHiSparseCoordinator)
    return engine, engine.coordinator


def add(engine: RecordingEngine, seed: int, new: int = 40, prompt: int = PROMPT) -> Request:
    return engine.add_request(random_prompt(prompt, seed), SamplingParams(new, ignore_eos=True))


def steps(engine: RecordingEngine, count: int) -> None:
    for _ in range(count):
        engine.step()
        seats = [request.held_seat for request in engine.scheduler.admitted]
        engine.coordinator.audit_residency(seats)  # type: ignore[attr-defined]


def test_a_lone_request_grows_until_nothing_can_miss() -> None:
    engine, coordinator = make(device_tokens=2000)
    request = add(engine, 1, new=80)
    steps(engine, 60)
    assert request.status is Status.RUNNING
    assert request.held_seat.device.size >= request.held_seat.length > PROMPT
    assert coordinator.counters.lookups > 0
    assert (coordinator.counters.misses, coordinator.counters.evictions) == (0, 0)


def test_a_buffer_has_its_base_size_when_nothing_is_free() -> None:
    engine, _ = make(device_tokens=2 * (TOP_K + 1))
    first, second = add(engine, 1), add(engine, 2)
    steps(engine, 12)
    assert [r.held_seat.device.size for r in (first, second)] == [TOP_K + 1] * 2


def test_a_new_request_takes_back_what_others_can_spare_and_no_row_goes_wrong() -> None:
    engine, coordinator = make(device_tokens=GROWTH_SLOTS * 2 + 5)
    first = add(engine, 1)
    steps(engine, 12)
    assert coordinator.device_pool.num_free == 0
    second = add(engine, 2)
    steps(engine, 12)
    assert second.status is Status.RUNNING
    assert second.held_seat.device.size >= TOP_K + 1
    assert first.held_seat.device.size < GROWTH_SLOTS * 2 + 5
    engine.run()
    assert coordinator.counters.verify_checks > 0
    assert coordinator.counters.verify_mismatches == 0
    assert engine.coordinator.get_token_stats() == (0, 0.0, 0, 0.0)


def test_usage_of_the_device_pool_counts_what_buffers_have_grown_to() -> None:
    engine, coordinator = make(device_tokens=500)
    add(engine, 1)
    steps(engine, 20)
    assert coordinator.get_token_stats().device_tokens == 500
    assert engine.levels().device_token_capacity == 500


def test_a_request_waits_for_a_stretch_of_the_tables_as_for_slots() -> None:
    tables = RequestTables(2, 100, MODEL.device)
    one = tables.open(60)
    assert not tables.has_room(60)
    assert tables.has_room(40)
    tables.close(*one)
    assert tables.has_room(100)
    two, three = tables.open(50), tables.open(50)
    assert not tables.has_room(0), "no row is left"
    tables.close(*two)
    tables.close(*three)
    assert tables.has_room(100)


def test_the_audit_sees_a_row_that_nobody_owns() -> None:
    engine, coordinator = make(device_tokens=500)
    add(engine, 1, new=3)
    engine.run()
    assert bool((coordinator.hot.tables.position_at == NONE).all())
    coordinator.hot.tables.position_at[0, 7] = 3
    with pytest.raises(InvariantError, match="nobody owns"):
        coordinator.audit([])


def test_tokens_come_a_step_late_and_none_after_the_last() -> None:
    engine, _ = make(device_tokens=500)
    request = add(engine, 1, new=3, prompt=20)
    seen = []
    while engine.has_work:
        engine.step()
        seen.append((len(request.output), request.num_in_flight))
    assert seen == [(0, 1), (1, 1), (2, 1), (3, 0)]
    assert engine.totals.generation_tokens == 3
    assert engine.totals.decode_steps == 2


def test_a_step_under_way_for_a_request_that_is_aborted_is_dropped() -> None:
    engine, _ = make(device_tokens=500)
    request, other = add(engine, 1, new=9), add(engine, 2, new=9)
    steps(engine, 7)
    tokens = list(request.output)
    engine.abort(request)
    engine.run()
    assert request.output == tokens
    assert len(other.output) == 9
    assert engine.coordinator.get_token_stats() == (0, 0.0, 0, 0.0)
