from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hisparse_metrics.web.coalesce import Coalesced


class Slow:
    """A computation that starts when it may, and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def __call__(self) -> int:
        self.runs += 1
        run = self.runs
        self.started.release()
        assert self.may_end.acquire(timeout=10)
        return run


def test_alone_each_call_computes_anew() -> None:
    numbers = iter(range(3))
    shared = Coalesced(lambda: next(numbers))
    assert [shared.get() for _ in range(3)] == [0, 1, 2]


def test_a_storm_costs_two_computations_and_nobody_gets_what_began_before() -> None:
    slow = Slow()
    shared = Coalesced(slow)
    with ThreadPoolExecutor(101) as pool:
        first = pool.submit(shared.get)
        assert slow.started.acquire(timeout=10)
        others = [pool.submit(shared.get) for _ in range(100)]
        while len([t for t in threading.enumerate() if t.name.startswith("ThreadPool")]) < 101:
            pass
        while pool._work_queue.qsize():
            pass
        threading.Event().wait(0.2)
        slow.may_end.release(2)
        assert first.result(10) == 1
        assert {other.result(10) for other in others} == {2}
    assert slow.runs == 2


def test_a_failure_is_everybodys_and_not_kept() -> None:
    answers = iter([ValueError("once"), "fine"])

    def compute() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shared = Coalesced(compute)
    with pytest.raises(ValueError, match="once"):
        shared.get()
    assert shared.get() == "fine"
