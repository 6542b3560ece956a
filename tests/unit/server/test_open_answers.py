"""The register of open answers: ids, ends, and when a place is likely to be free; and the gate before it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hisparse_engine.server.answer import Answer
from hisparse_engine.server.errors import ApiError, shutting_down
from hisparse_engine.server.gate import Gate, Phase
from hisparse_engine.server.open_answers import OpenAnswers


class FakeAnswer:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def close(self) -> None:
        self.done.append("closed")

    def abort(self, error: ApiError) -> None:
        self.done.append(error.body["error"]["code"])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answers_with(*ids: str, clock: Clock | None = None) -> tuple[OpenAnswers, dict[str, FakeAnswer]]:
    register, made = OpenAnswers(clock or Clock()), {answer_id: FakeAnswer() for answer_id in ids}
    for answer_id, answer in made.items():
        register.add(answer_id, cast(Answer, answer))
    return register, made


def test_an_id_is_new_or_the_client_s() -> None:
    register, _ = answers_with()
    assert register.new_id("cmpl-", None).startswith("cmpl-")
    assert register.new_id("cmpl-", None) != register.new_id("cmpl-", None)
    assert register.new_id("cmpl-", "a.B_1:-") == "a.B_1:-"


@pytest.mark.parametrize("wanted", ["", "a b", "ä", "x" * 129, "a\n", "../x"])
def test_what_is_no_id_is_refused(wanted: str) -> None:
    with pytest.raises(ApiError, match="X-Request-Id"):
        answers_with()[0].new_id("cmpl-", wanted)


def test_an_id_belongs_to_one_answer_at_a_time() -> None:
    register, made = answers_with("a")
    with pytest.raises(ApiError, match="in use"):
        register.add("a", cast(Answer, FakeAnswer()))
    register.close("a")
    assert made["a"].done == ["closed"]
    register.add("a", cast(Answer, FakeAnswer()))
    assert len(register) == 1


def test_an_answer_is_closed_once() -> None:
    register, made = answers_with("a")
    register.close("a")
    register.close("a")
    assert made["a"].done == ["closed"]


def test_one_can_be_aborted_or_all() -> None:
    register, made = answers_with("a", "b")
    assert register.abort("a")
    assert not register.abort("nobody")
    register.abort_all(shutting_down())
    assert (made["a"].done, made["b"].done) == (["request_aborted", "shutting_down"], ["shutting_down"])


@pytest.mark.parametrize(("gap", "seconds"), [(0.01, 1), (4.0, 4), (1000.0, 60)])
def test_a_place_is_free_as_often_as_answers_end(gap: float, seconds: int) -> None:
    clock = Clock()
    register, _ = answers_with(*"abcd", clock=clock)
    assert register.retry_after() == 1
    for answer_id in "abcd":
        clock.now += gap
        register.close(answer_id)
    assert register.retry_after() == seconds


def test_the_gate_says_why_it_is_shut() -> None:
    gate = Gate()
    for phase, status in [
        (Phase.LOADING, 503),
        (Phase.OPEN, None),
        (Phase.DRAINING, 503),
        (Phase.FAILED, 500),
    ]:
        gate.move_to(phase)
        if status is None:
            gate.check()
            continue
        with pytest.raises(ApiError) as raised:
            gate.check()
        assert raised.value.status == status


def test_the_gate_never_opens_again() -> None:
    gate = Gate()
    gate.move_to(Phase.DRAINING)
    gate.move_to(Phase.OPEN)
    assert gate.phase is Phase.DRAINING
