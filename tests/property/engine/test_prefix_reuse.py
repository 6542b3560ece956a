"""Rows that another request has computed are shared, not computed again; outputs do not change."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_engine.engine import Engine
from hisparse_engine.memory.slot_ledger import MIN_SHARED_TOKENS
from hisparse_engine.request import Outcome, Request, SamplingParams
from tests.support.models import engine_config, random_prompt, tiny_model

MODEL = tiny_model(seed=5)
BUFFER = MODEL.config.index_topk
CHUNK = 48
BOTH = pytest.mark.parametrize("mode", ["hierarchical", "resident"])


def make_engine(mode: str = "hierarchical", tokens: int = 4000, **fields: Any) -> Engine:
    tiers = {
        "device_buffer_size": BUFFER,
        "device_tokens": 4000,
        "host_tokens": tokens,
        "index_tokens": tokens,
    }
    if mode == "resident":
        tiers["device_tokens"] = tokens
    config = engine_config(
        mode=mode, hisparse=tiers, prefill_chunk_size=CHUNK, audit_every=1, verify_every=1, **fields
    )
    return Engine(MODEL, config)


def ask(engine: Engine, prompt: list[int], new: int = 30) -> Request:
    return engine.add_request(prompt, SamplingParams(new, ignore_eos=True))


def outputs(engine: Engine, prompts: list[list[int]], *, together: bool = True) -> list[list[int]]:
    requests = []
    for prompt in prompts:
        requests.append(ask(engine, prompt))
        if not together:
            engine.run()
    engine.run()
    return [request.output for request in requests]


@given(
    shared=st.integers(1, 200),
    tails=st.lists(st.integers(1, 100), min_size=2, max_size=4),
    mode=st.sampled_from(["hierarchical", "resident"]),
    together=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_outputs_are_those_without_reuse(shared: int, tails: list[int], mode: str, together: bool) -> None:
    document = random_prompt(shared, 0)
    prompts = [document + random_prompt(tail, 1 + seed) for seed, tail in enumerate(tails)]
    reusing, computing = make_engine(mode), make_engine(mode, prefix_reuse=False)
    assert outputs(reusing, prompts, together=together) == outputs(computing, prompts, together=together)
    assert reusing.coordinator.counters.verify_mismatches == 0
    assert reusing.totals.invariant_violations == 0
    computed, hit = reusing.totals.prompt_tokens, reusing.scheduler.num_prefix_hit_tokens
    assert computed + hit == computing.totals.prompt_tokens == sum(map(len, prompts))
    assert reusing.levels().host_tokens == reusing.levels().index_tokens == 0


@BOTH
def test_the_second_question_about_a_document_computes_only_itself(mode: str) -> None:
    document = random_prompt(4 * CHUNK, 0)
    engine = make_engine(mode)
    ask(engine, document + random_prompt(10, 1), 200)
    for _ in range(10):
        engine.step()
    before = engine.totals.prompt_tokens
    second = ask(engine, document + random_prompt(10, 2), 5)
    engine.run()
    assert engine.totals.prompt_tokens - before == 10
    assert engine.scheduler.num_prefix_hit_tokens == second.num_cached_tokens == len(document)


@BOTH
def test_rows_outlive_their_request(mode: str) -> None:
    engine = make_engine(mode)
    document = random_prompt(200, 0)
    outputs(engine, [document])
    assert engine.levels().host_tokens == 0
    assert engine.coordinator.index_keys.pool.num_cached == 200 + 29
    again = ask(engine, document + random_prompt(10, 1))
    engine.run()
    assert again.num_cached_tokens == 200


def test_rows_are_shared_not_copied_and_counted_once() -> None:
    document = random_prompt(4 * CHUNK, 0)
    engine = make_engine()
    for seed in range(3):
        ask(engine, document + random_prompt(10, seed), 200)
    for _ in range(12):
        engine.step()
    levels = engine.levels()
    assert levels.running_requests == 3
    own = sum(len(request.output) - 1 + 10 for request in engine.scheduler.admitted)
    assert levels.host_tokens == len(document) + own


def test_requests_that_arrive_together_compute_their_document_once() -> None:
    document = random_prompt(4 * CHUNK, 0)
    engine = make_engine()
    outputs(engine, [document + random_prompt(20, seed) for seed in range(1, 4)])
    assert engine.totals.prompt_tokens < len(document) + 3 * (20 + CHUNK)


@BOTH
def test_an_answer_is_a_prefix_too_but_one_token_is_left_to_compute(mode: str) -> None:
    prompt = random_prompt(100, 0)
    engine = make_engine(mode)
    first = ask(engine, prompt, 100)
    engine.run()
    follow_up = prompt + first.output[:40]
    second = ask(engine, follow_up, 5)
    engine.run()
    assert second.num_cached_tokens == len(follow_up) - 1
    assert second.output == first.output[40:45]


def test_a_short_prefix_is_computed() -> None:
    engine = make_engine()
    prompt = random_prompt(200, 0)
    outputs(engine, [prompt])
    short = ask(engine, prompt[: MIN_SHARED_TOKENS - 1] + random_prompt(50, 1))
    just = ask(engine, [*prompt[:MIN_SHARED_TOKENS], (prompt[MIN_SHARED_TOKENS] + 1) % 200])
    engine.run()
    assert (short.num_cached_tokens, just.num_cached_tokens) == (0, MIN_SHARED_TOKENS)


@BOTH
def test_cached_rows_make_room_for_whoever_needs_it_oldest_first(mode: str) -> None:
    engine = make_engine(mode, tokens=400)
    old, new = random_prompt(150, 0), random_prompt(150, 1)
    outputs(engine, [old], together=False)
    outputs(engine, [new], together=False)
    assert engine.coordinator.index_keys.pool.num_cached == 2 * 179
    outputs(engine, [random_prompt(180, 2)])
    asked = [ask(engine, [*new, 7], 2), ask(engine, [*old, 7], 2)]
    engine.run()
    assert asked[0].num_cached_tokens == 150, "the newer one is still there"
    assert asked[1].num_cached_tokens < 150, "the older one had to make room"


def test_a_prefix_in_use_is_not_evicted() -> None:
    engine = make_engine(tokens=400)
    document = random_prompt(200, 0)
    outputs(engine, [document])
    user = ask(engine, [*document, 3], 100)
    engine.step()
    big = ask(engine, random_prompt(150, 1), 20)
    engine.step()
    assert big.seat is None, "200 + 100 + 169 do not fit 400"
    engine.run()
    assert (user.outcome, big.outcome) == (Outcome.LENGTH, Outcome.LENGTH)
    assert user.num_cached_tokens == 200


@BOTH
def test_the_account_has_no_gap(mode: str) -> None:
    engine = make_engine(mode, tokens=700)
    pool = engine.coordinator.index_keys.pool
    for seed in range(8):
        ask(engine, random_prompt(100, seed % 3) + random_prompt(20, seed), 40)
    while engine.has_work:
        engine.step()
        assert pool.num_used + (pool.num_reserved - pool.num_used) + pool.num_cached + pool.num_free == 700
        assert pool.num_used <= pool.num_reserved <= 700
    assert pool.num_used == pool.num_reserved == 0
    assert engine.totals.invariant_violations == 0


@BOTH
def test_reuse_can_be_switched_off(mode: str) -> None:
    engine = make_engine(mode, prefix_reuse=False)
    prompt = random_prompt(150, 0)
    outputs(engine, [prompt, prompt], together=False)
    assert engine.scheduler.num_prefix_hit_tokens == 0
    assert engine.coordinator.index_keys.pool.num_cached == 0
