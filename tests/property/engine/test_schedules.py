"""Random schedules: whatever arrives, is cancelled, retracted or shared, accounts add up and outputs are right.

Each finished request must have the tokens that it gets alone in a resident engine without prefix reuse.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hisparse_engine.engine import Engine
from hisparse_engine.request import Outcome, Request, SamplingParams
from tests.support.models import engine_config, random_prompt, tiny_model

MODEL = tiny_model(
    hidden_size=32, num_hidden_layers=2, index_topk=8, indexer_types=["full", "shared"], seed=7
)
BUFFER = MODEL.config.index_topk
DOCUMENTS = [tuple(random_prompt(60, seed)) for seed in range(3)]


class Asked(NamedTuple):
    """What a request asks; equal ones have equal answers."""

    prompt: tuple[int, ...]
    params: SamplingParams


@cache
def alone(asked: Asked) -> tuple[int, ...]:
    room = len(asked.prompt) + asked.params.max_new_tokens
    tiers = {"device_tokens": room, "index_tokens": room}
    engine = Engine(MODEL, engine_config(mode="resident", hisparse=tiers, prefix_reuse=False))
    request = engine.add_request(asked.prompt, asked.params)
    engine.run()
    return tuple(request.output)


class Clock:
    """Time that only the engine's looks move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


class ScheduleMachine(RuleBasedStateMachine):
    """An engine under random clients."""

    @initialize(
        mode=st.sampled_from(["hierarchical", "hierarchical", "resident"]),
        tokens=st.integers(200, 320),
        reserve=st.sampled_from(["worst-case", "quantile"]),
        chunk=st.integers(5, 70),
        reuse=st.booleans(),
        running=st.integers(1, 5),
    )
    def start(self, mode: str, tokens: int, reserve: str, chunk: int, reuse: bool, running: int) -> None:
        tiers = {
            "device_buffer_size": BUFFER, "host_tokens": tokens, "index_tokens": tokens,
            "device_tokens": tokens if mode == "resident" else 4 * (BUFFER + 1),
        }  # fmt: skip
        config = engine_config(
            mode=mode, hisparse=tiers, reserve=reserve, reserve_quantile=0.5, prefill_chunk_size=chunk,
            prefix_reuse=reuse, max_running_requests=running, verify_every=1,
        )  # fmt: skip
        self.tokens = tokens
        self.engine = Engine(MODEL, config, clock=Clock())
        self.asked: dict[int, tuple[Request, Asked]] = {}
        self.ended: list[Request] = []
        for seed in range(2):  # short answers, from which the quantile policy learns to promise too little
            self._ask(Asked(tuple(random_prompt(4, seed)), SamplingParams(1, ignore_eos=True)))
        self.step(3)

    @rule(
        document=st.integers(0, 2),
        shared=st.integers(0, 60),
        tail=st.integers(1, 30),
        seed=st.integers(0, 3),
        new=st.integers(1, 40),
        temperature=st.sampled_from([0.0, 0.0, 0.9]),
    )
    def arrive(self, document: int, shared: int, tail: int, seed: int, new: int, temperature: float) -> None:
        prompt = DOCUMENTS[document][:shared] + tuple(random_prompt(tail, 100 + seed))
        self._ask(Asked(prompt, SamplingParams(new, temperature, seed=seed, ignore_eos=True)))

    @rule(document=st.integers(0, 2), count=st.integers(2, 5), new=st.integers(66, 120))
    def rush(self, document: int, count: int, new: int) -> None:
        """Many questions about one document at once, with long answers."""
        for seed in range(count):
            prompt = DOCUMENTS[document] + tuple(random_prompt(5, 300 + seed))
            self._ask(Asked(prompt, SamplingParams(new, ignore_eos=True)))

    def _ask(self, asked: Asked) -> None:
        request = self.engine.add_request(asked.prompt, asked.params)
        self.asked[request.id] = request, asked

    @rule(which=st.integers(0, 3), more=st.integers(1, 20))
    def go_on_from_an_answer(self, which: int, more: int) -> None:
        """The next turn of a chat: an answer that was given becomes part of a prompt."""
        done = [r for r in self.ended if r.outcome is Outcome.LENGTH and len(r.prompt) + len(r.output) < 90]
        if done:
            before = done[which % len(done)]
            prompt = before.prompt + tuple(before.output) + tuple(random_prompt(more, 200))
            self._ask(Asked(prompt, SamplingParams(10, ignore_eos=True)))

    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.ended += self.engine.step()
            self._expect_accounts()

    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        open_requests = [request for request, _ in self.asked.values() if request.outcome is None]
        if open_requests:
            self.engine.abort(open_requests[which % len(open_requests)])

    @invariant()
    def nothing_is_wrong(self) -> None:
        if hasattr(self, "engine"):
            self._expect_accounts()

    def _expect_accounts(self) -> None:
        engine = self.engine
        assert engine.totals.invariant_violations == 0
        assert engine.coordinator.counters.verify_mismatches == 0
        levels = engine.levels()
        assert levels.host_tokens + levels.host_tokens_reserved + levels.host_tokens_cached <= self.tokens
        pool = engine.coordinator.index_keys.pool
        assert pool.num_reserved + pool.num_cached + pool.num_free == self.tokens

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        while self.engine.has_work:
            self.ended += self.engine.step()
            self._expect_accounts()
        self.ended += self.engine.step()
        event(f"retracted: {self.engine.scheduler.num_retractions > 0}")
        event(f"shared: {self.engine.scheduler.num_prefix_hit_tokens > 0}")
        assert sorted(request.id for request in self.ended) == sorted(self.asked)
        levels = self.engine.levels()
        assert levels.host_tokens == levels.device_tokens == levels.index_tokens == 0
        assert levels.host_tokens_reserved == 0
        for request, asked in self.asked.values():
            if request.outcome is Outcome.ABORTED:
                assert tuple(request.output) == alone(asked)[: len(request.output)]
            else:
                assert (request.outcome, tuple(request.output)) == (Outcome.LENGTH, alone(asked))


TestSchedules = ScheduleMachine.TestCase
TestSchedules.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
