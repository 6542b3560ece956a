"""A prefix that another request has computed is copied, not computed again; outputs do not change."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_engine.engine import Engine
from hisparse_engine.prefix import MIN_REUSED_TOKENS, longest_match
from hisparse_engine.request import Request, SamplingParams
from tests.support.models import engine_config, random_prompt, tiny_model

MODEL = tiny_model(seed=5)
BUFFER = MODEL.config.index_topk
CHUNK = 48


def make_engine(mode: str = "hierarchical", **fields: Any) -> Engine:
    tiers = {"device_buffer_size": BUFFER, "device_tokens": 4000, "host_tokens": 4000}
    config = engine_config(
        mode=mode, hisparse=tiers, prefill_chunk_size=CHUNK, audit_every=1, verify_every=1, **fields
    )
    return Engine(MODEL, config)


def outputs(engine: Engine, prompts: list[list[int]]) -> list[list[int]]:
    params = SamplingParams(30, ignore_eos=True)
    requests = [engine.add_request(prompt, params) for prompt in prompts]
    engine.run()
    return [request.output for request in requests]


@given(
    shared=st.integers(1, 200),
    tails=st.lists(st.integers(1, 100), min_size=2, max_size=4),
    mode=st.sampled_from(["hierarchical", "resident"]),
)
@settings(max_examples=12, deadline=None)
def test_outputs_are_those_without_reuse(shared: int, tails: list[int], mode: str) -> None:
    document = random_prompt(shared, 0)
    prompts = [document + random_prompt(tail, 1 + seed) for seed, tail in enumerate(tails)]
    reusing, computing = make_engine(mode), make_engine(mode, prefix_reuse=False)
    assert outputs(reusing, prompts) == outputs(computing, prompts)
    assert reusing.coordinator.counters.verify_mismatches == 0
    computed, hit = reusing.totals.prompt_tokens, reusing.scheduler.num_prefix_hit_tokens
    assert computed + hit == computing.totals.prompt_tokens == sum(map(len, prompts))
    assert reusing.levels().host_tokens == reusing.levels().index_tokens == 0


def test_the_second_question_about_a_document_computes_only_itself() -> None:
    document = random_prompt(4 * CHUNK, 0)
    engine = make_engine()
    engine.add_request(document + random_prompt(10, 1), SamplingParams(200, ignore_eos=True))
    for _ in range(10):
        engine.step()
    before = engine.totals.prompt_tokens
    engine.add_request(document + random_prompt(10, 2), SamplingParams(5, ignore_eos=True))
    engine.run()
    assert engine.totals.prompt_tokens - before == 10
    assert engine.scheduler.num_prefix_hit_tokens == len(document)


def test_an_answer_is_a_prefix_too_but_one_token_is_left_to_compute() -> None:
    prompt = random_prompt(100, 0)
    engine = make_engine()
    first = engine.add_request(prompt, SamplingParams(100, ignore_eos=True))
    while len(first.output) < 50:
        engine.step()
    follow_up = prompt + first.output[:40]
    second = engine.add_request(follow_up, SamplingParams(5, ignore_eos=True))
    engine.run()
    assert engine.scheduler.num_prefix_hit_tokens == len(follow_up) - 1
    assert second.output == first.output[40:45]


def test_a_short_or_foreign_prefix_is_computed() -> None:
    engine = make_engine()
    prompt = random_prompt(200, 0)
    donor = engine.add_request(prompt, SamplingParams(50, ignore_eos=True))
    for _ in range(8):
        engine.step()
    short = Request(9, tuple(prompt[: MIN_REUSED_TOKENS - 1] + random_prompt(50, 1)), SamplingParams(), 0.0)
    assert longest_match(short, [donor]) is None
    just = Request(
        9, (*prompt[:MIN_REUSED_TOKENS], (prompt[MIN_REUSED_TOKENS] + 1) % 200), SamplingParams(), 0.0
    )
    found = longest_match(just, [donor])
    assert found is not None
    assert found.num_tokens == MIN_REUSED_TOKENS


@pytest.mark.parametrize("mode", ["hierarchical", "resident"])
def test_reuse_can_be_switched_off(mode: str) -> None:
    engine = make_engine(mode, prefix_reuse=False)
    prompt = random_prompt(150, 0)
    outputs(engine, [prompt, prompt])
    assert engine.scheduler.num_prefix_hit_tokens == 0
