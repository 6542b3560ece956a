"""What of the used device slots hot buffers would give back: by example, and what always holds of it."""

from __future__ import annotations

import pytest

from hisparse_engine.elastic_buffers import GROWTH_SLOTS
from hisparse_engine.request import Request, SamplingParams, Status
from tests.support.models import BACKENDS, TOP_K, RecordingEngine, engine_config, random_prompt, tiny_model

MODEL = tiny_model(seed=5, max_position_embeddings=2048)
BASE = TOP_K + 1


def make(device_tokens: int, backend: str = "tables", mode: str = "hierarchical") -> RecordingEngine:
    sizes = {"device_buffer_size": TOP_K, "device_tokens": device_tokens, "host_tokens": 4096}
    config = engine_config(mode=mode, hisparse=sizes, prefix_reuse=False)
    return RecordingEngine(MODEL, config, backend=BACKENDS[backend])


def add(engine: RecordingEngine, seed: int, new: int = 40, prompt: int = 700) -> Request:
    return engine.add_request(random_prompt(prompt, seed), SamplingParams(new, ignore_eos=True))


def steps(engine: RecordingEngine, count: int) -> None:
    for _ in range(count):
        engine.step()


def test_what_a_lone_request_has_grown_beyond_its_base_is_spare() -> None:
    engine = make(device_tokens=2000)
    request = add(engine, 1)
    steps(engine, 15)
    levels = engine.levels()
    assert levels.device_tokens == request.held_seat.length > 700, "all of it is resident"
    assert levels.device_tokens_spare == levels.device_tokens - BASE


def test_nothing_is_spare_when_a_second_request_took_it_back() -> None:
    engine = make(device_tokens=2 * BASE)
    first = add(engine, 1)
    steps(engine, 12)
    assert engine.levels().device_tokens_spare == BASE, "the first has grown over the whole pool"
    second = add(engine, 2)
    steps(engine, 12)
    assert [first.status, second.status] == [Status.RUNNING] * 2
    assert (engine.levels().device_tokens, engine.levels().device_tokens_spare) == (2 * BASE, 0)


def test_slots_that_a_buffer_holds_and_does_not_use_yet_are_not_spare() -> None:
    engine = make(device_tokens=2000)
    request = add(engine, 1, prompt=BASE + 2)
    while request.status is not Status.RUNNING:
        engine.step()
    engine.step()
    assert request.held_seat.device.size > request.held_seat.length
    assert engine.levels().device_tokens_spare == request.held_seat.length - BASE


def test_a_request_shorter_than_its_base_spares_nothing() -> None:
    engine = make(device_tokens=2000)
    add(engine, 1, prompt=4, new=TOP_K - 8)
    while engine.has_work:
        engine.step()
        assert engine.levels().device_tokens_spare == 0


@pytest.mark.parametrize("room", [2 * BASE, GROWTH_SLOTS + 5, 2 * GROWTH_SLOTS + 5])
def test_what_is_not_spare_is_never_more_than_a_base_for_each_request(room: int) -> None:
    engine = make(device_tokens=room)
    most_spare = 0
    for seed in range(5):
        add(engine, seed, prompt=60 + 150 * seed, new=12 + seed)
    while engine.has_work:
        engine.step()
        levels, seated = engine.levels(), len(engine.scheduler.admitted)
        assert 0 <= levels.device_tokens - levels.device_tokens_spare <= seated * BASE
        most_spare = max(most_spare, levels.device_tokens_spare)
    assert most_spare > 0
    assert (engine.levels().device_tokens, engine.levels().device_tokens_spare) == (0, 0)


@pytest.mark.parametrize(
    ("backend", "mode"), [("eager", "hierarchical"), ("eager", "resident"), ("tables", "resident")]
)
def test_nothing_is_spare_where_buffers_do_not_grow(backend: str, mode: str) -> None:
    engine = make(2000, backend, mode)
    add(engine, 1)
    steps(engine, 15)
    assert engine.levels().device_tokens > 0
    assert engine.levels().device_tokens_spare == 0
