"""Ten times more work than fits: every request ends well or is refused clearly, nothing hangs, pools end empty."""

from __future__ import annotations

import pytest

from hisparse_engine.engine import Engine
from hisparse_engine.errors import CapacityError
from hisparse_engine.request import Outcome, Request, SamplingParams
from tests.support.models import engine_config, random_prompt, tiny_model

MODEL = tiny_model(hidden_size=32, num_hidden_layers=2, index_topk=8, max_position_embeddings=2000)
HOST = 600
NUM_REQUESTS = 36
MANY_STEPS = 6000


class EndingEngine(Engine):
    """Requests may say much and end early, as if the model had said its end-of-sequence token."""

    def _outcome(self, request: Request, token: int) -> Outcome | None:
        ends_at = 5 + 7 * (request.id % 11)
        return Outcome.STOP if len(request.output) >= ends_at else super()._outcome(request, token)


@pytest.mark.parametrize("reserve", ["worst-case", "quantile"])
def test_ten_times_more_than_fits(reserve: str) -> None:
    tiers = {"device_buffer_size": 8, "device_tokens": 30 * 9, "host_tokens": HOST}
    config = engine_config(
        hisparse=tiers, reserve=reserve, reserve_quantile=0.5, max_running_requests=30, audit_every=5
    )
    engine = EndingEngine(MODEL, config)
    requests, refusals = [], []
    for seed in range(NUM_REQUESTS):
        params = SamplingParams(700 if seed % 9 == 8 else 130, ignore_eos=True)
        try:
            requests.append(engine.add_request(random_prompt(30 + seed, seed), params))
        except CapacityError as error:
            refusals.append(str(error))
    assert sum(request.max_tokens for request in requests) > 8 * HOST
    steps = 0
    while engine.has_work:
        engine.step()
        steps += 1
        assert steps < MANY_STEPS, "it does not get on"
        levels = engine.levels()
        assert levels.host_tokens + levels.host_tokens_reserved <= HOST
    assert len(refusals) == NUM_REQUESTS // 9
    assert all("of the host pool, which has 600 in all; raise --host-tokens" in text for text in refusals)
    assert {request.outcome for request in requests} == {Outcome.STOP}
    assert (engine.scheduler.num_retractions > 0) == (reserve == "quantile")
    levels = engine.levels()
    assert (
        levels.host_tokens == levels.device_tokens == levels.index_tokens == levels.host_tokens_reserved == 0
    )
    assert engine.totals.invariant_violations == 0
