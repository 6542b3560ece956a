"""Under the quantile policy pools run out, requests are retracted and resume; nothing is lost and nothing changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_engine.engine import Engine
from hisparse_engine.request import Outcome, Request, SamplingParams, Status
from tests.support.models import BACKENDS, engine_config, random_prompt, tiny_model

MODEL = tiny_model(seed=3)
BUFFER = MODEL.config.index_topk
HOST = 700


def make_engine(*, mode: str, backend: str = "eager", **pools: Any) -> Engine:
    tiers = {"device_buffer_size": BUFFER, "device_tokens": 8 * (BUFFER + 1), "host_tokens": HOST, **pools}
    config = engine_config(
        mode=mode,
        hisparse=tiers,
        reserve="quantile",
        reserve_quantile=0.5,
        audit_every=1,
        prefill_chunk_size=64,
    )
    return Engine(MODEL, config, backend=BACKENDS[backend])


def alone(prompt: list[int], params: SamplingParams) -> list[int]:
    config = engine_config(
        mode="resident", hisparse={"device_tokens": HOST, "index_tokens": HOST}, prefill_chunk_size=64
    )
    engine = Engine(MODEL, config)
    request = engine.add_request(prompt, params)
    engine.run()
    return request.output


def teach_short_answers(engine: Engine) -> None:
    """Let the policy see answers of one token, so that it promises too little from now on."""
    for seed in range(3):
        engine.add_request(random_prompt(4, seed), SamplingParams(1, ignore_eos=True))
    engine.run()


@given(
    lengths=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 120)), min_size=4, max_size=7),
    temperature=st.sampled_from([0.0, 0.8]),
    mode=st.sampled_from(["hierarchical", "resident"]),
    backend=st.sampled_from(sorted(BACKENDS)),
)
@settings(max_examples=8, deadline=None)
def test_every_request_ends_with_the_tokens_of_an_undisturbed_run(
    lengths: list[tuple[int, int]], temperature: float, mode: str, backend: str
) -> None:
    pools = {} if mode == "hierarchical" else {"device_tokens": HOST, "index_tokens": HOST}
    engine = make_engine(mode=mode, backend=backend, **pools)
    teach_short_answers(engine)
    asked = [
        (random_prompt(prompt, seed), SamplingParams(new, temperature, seed=seed, ignore_eos=True))
        for seed, (prompt, new) in enumerate(lengths)
    ]
    requests = [engine.add_request(prompt, params) for prompt, params in asked]
    engine.run()
    assert [request.outcome for request in requests] == [Outcome.LENGTH] * len(requests)
    assert engine.levels().host_tokens == engine.levels().device_tokens == engine.levels().index_tokens == 0
    for request, (prompt, params) in zip(requests, asked, strict=True):
        assert request.output == alone(prompt, params)


def overload() -> tuple[Engine, list[Request]]:
    engine = make_engine(mode="hierarchical")
    teach_short_answers(engine)
    params = SamplingParams(150, ignore_eos=True)
    return engine, [engine.add_request(random_prompt(100, seed), params) for seed in range(6)]


def test_the_youngest_is_retracted_counted_and_resumes(caplog: pytest.LogCaptureFixture) -> None:
    engine, requests = overload()
    engine.run()
    assert engine.scheduler.num_retractions > 0
    assert requests[0].num_retractions == 0  # the oldest is never disturbed
    assert sum(r.num_retractions for r in requests) == engine.scheduler.num_retractions
    assert "retracted request" in caplog.text
    assert engine.totals.prompt_tokens == 3 * 4 + 6 * 100


def test_the_host_pool_is_never_overrun_and_the_promise_is_never_below_the_use() -> None:
    engine, _ = overload()
    highest = 0
    while engine.has_work:
        engine.step()
        levels = engine.levels()
        assert levels.host_tokens + levels.host_tokens_reserved <= HOST
        highest = max(highest, levels.host_tokens)
    assert highest > 0.8 * HOST  # more than worst-case promises of 249 rows would have let in


def test_a_retracted_request_can_be_aborted_while_it_waits() -> None:
    engine, requests = overload()
    while not engine.scheduler.num_retractions:
        engine.step()
    waiting = next(request for request in requests if request.num_retractions)
    assert (waiting.status, waiting.seat) == (Status.WAITING, None)
    assert waiting.output, "it keeps what it generated"
    engine.abort(waiting)
    engine.run()
    assert waiting.outcome is Outcome.ABORTED
    assert engine.levels().host_tokens == 0


def test_the_worst_case_policy_never_retracts() -> None:
    tiers = {"device_buffer_size": BUFFER, "device_tokens": 8 * (BUFFER + 1), "host_tokens": HOST}
    engine = Engine(MODEL, engine_config(hisparse=tiers))
    for seed in range(6):
        engine.add_request(random_prompt(100, seed), SamplingParams(150, ignore_eos=True))
    engine.run()
    assert engine.scheduler.num_retractions == 0
