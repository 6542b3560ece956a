"""Who runs next: order of arrival, the chunk budget, staging, and what ends when."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from hisparse_engine.kv import KVCoordinator, Seat
from hisparse_engine.memory.pool import Claim
from hisparse_engine.memory.prefix_tree import Tokens
from hisparse_engine.request import Outcome, Request, SamplingParams, Status
from hisparse_engine.scheduler import Batch, Scheduler


class FakeCoordinator:
    """A single pool of ``capacity`` slots; staging takes until somebody says so."""

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self.staged = True

    def can_admit(self, _max_tokens: int, promised: int, _tokens: Tokens) -> bool:
        return promised <= self.free

    def admit(self, _max_tokens: int, promised: int, _tokens: Tokens) -> Seat:
        seat = Seat(Claim(), Claim(), Claim(slots=np.arange(promised)))
        self.free -= promised
        return seat

    def extend(self, seat: Seat, num_tokens: int) -> bool:
        if num_tokens > self.free:
            return False
        seat.index.slots = np.arange(seat.promised + num_tokens)
        self.free -= num_tokens
        return True

    def is_staged(self, _seat: Seat) -> bool:
        return self.staged

    def catch_up(self, _seat: Seat, _tokens: Tokens) -> None:
        """Share nothing."""

    def release(self, seat: Seat, _tokens: Tokens) -> None:
        self.free += seat.promised


class House:
    """A scheduler, what it schedules, and a stand-in for the engine that computes nothing."""

    def __init__(self, *, capacity: int = 1000, max_running: int = 8, chunk_size: int = 100) -> None:
        self.coordinator = FakeCoordinator(capacity)
        self.scheduler = Scheduler(
            cast(KVCoordinator, self.coordinator), max_running=max_running, prefill_chunk_size=chunk_size
        )
        self.count = 0

    def arrive(self, prompt_length: int, new_tokens: int = 10) -> Request:
        params = SamplingParams(max_new_tokens=new_tokens)
        request = Request(self.count, (0,) * prompt_length, params, arrived=0.0)
        self.count += 1
        self.scheduler.add(request)
        return request

    def step(self) -> Batch:
        batch = self.scheduler.schedule()
        self.chunks = [(c.request.id, c.num_tokens, c.last) for c in batch.prefill]
        for chunk in batch.prefill:
            if chunk.last:
                chunk.request.status = Status.STAGING
            chunk.request.num_computed += chunk.num_tokens
            chunk.request.held_seat.length += chunk.num_tokens
        return batch

    def step_chunks(self) -> list[tuple[int, int, bool]]:
        """Step; return (request id, tokens, whether the prompt is complete) of each chunk."""
        self.step()
        return self.chunks


def test_a_request_prefills_then_stages_then_decodes() -> None:
    house = House()
    request = house.arrive(5)
    assert request.status is Status.WAITING
    batch = house.scheduler.schedule()
    assert request.status is Status.PREFILL
    assert [chunk.last for chunk in batch.prefill] == [True]
    assert batch.decode == ()
    request.num_computed, request.status = 5, Status.STAGING
    request.held_seat.length = 5
    assert house.step() == Batch((), (request,))
    assert request.status is Status.RUNNING


def test_a_request_that_is_not_staged_yet_does_not_decode() -> None:
    house = House()
    request = house.arrive(5)
    house.coordinator.staged = False
    house.step()
    assert house.step() == Batch((), ())
    assert request.status is Status.STAGING
    house.coordinator.staged = True
    assert house.step().decode == (request,)


def test_nobody_overtakes_the_head_of_the_queue() -> None:
    house = House(capacity=100)
    first, large, small = house.arrive(60, 1), house.arrive(60, 1), house.arrive(10, 1)
    for _ in range(3):
        house.step()
        assert list(house.scheduler.waiting) == [large, small]
    house.scheduler.finish(first, Outcome.LENGTH)
    house.step()
    assert [r.seat is None for r in (first, large, small)] == [True, False, False]


def test_admission_accounts_the_last_token_that_gets_a_row() -> None:
    house = House(capacity=14)
    house.arrive(5, new_tokens=10)
    house.step()
    assert house.coordinator.free == 0


def test_no_more_than_max_running_are_admitted() -> None:
    house = House(max_running=2)
    requests = [house.arrive(5) for _ in range(3)]
    house.step()
    assert len(house.scheduler.admitted) == 2
    house.scheduler.finish(requests[0], Outcome.STOP)
    house.step()
    assert house.scheduler.admitted == requests[1:]


def test_the_chunk_budget_is_shared_in_order_of_arrival() -> None:
    house = House(chunk_size=10)
    for length in (13, 4, 8):
        house.arrive(length)
    assert house.step_chunks() == [(0, 10, False)]
    assert house.step_chunks() == [(0, 3, True), (1, 4, True), (2, 3, False)]
    assert house.step_chunks() == [(2, 5, True)]
    assert house.step_chunks() == []


def test_decode_goes_on_while_others_prefill() -> None:
    house = House(chunk_size=4)
    short, _long = house.arrive(4), house.arrive(40)
    house.step()
    batch = house.step()
    assert batch.decode == (short,)
    assert house.chunks == [(1, 4, False)]


@pytest.mark.parametrize("steps", [0, 1, 2, 3], ids=["waiting", "prefill", "staging", "running"])
def test_finishing_frees_everything_at_every_stage(steps: int) -> None:
    house = House(chunk_size=3)
    request = house.arrive(6)
    for _ in range(steps):
        house.step()
    expected = (Status.WAITING, Status.PREFILL, Status.STAGING, Status.RUNNING)[steps]
    assert request.status is expected
    house.scheduler.finish(request, Outcome.ABORTED)
    assert (request.status, request.outcome, request.seat) == (Status.FINISHED, Outcome.ABORTED, None)
    assert house.coordinator.free == 1000
    assert not house.scheduler.has_work
    assert house.step() == Batch((), ())


def test_an_empty_scheduler_has_no_work() -> None:
    house = House()
    assert not house.scheduler.has_work
    house.arrive(1)
    assert house.scheduler.has_work
