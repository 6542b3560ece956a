"""What will be asked follows from settings and seed alone."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from benchmarks.load_generator.lengths import Row
from benchmarks.load_generator.plan import plan_arrivals, plan_chats
from benchmarks.load_generator.settings import Load, LoadError

LENGTHS = [(Row(tokens, 2 * tokens),) for tokens in range(1, 50)]


def load(**fields: Any) -> Load:
    return Load(**{"rate": 1.0, "num_requests": 40} | fields)


def test_the_seed_decides_everything() -> None:
    first, again, other = (list(plan_chats(load(seed=seed), LENGTHS)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("requests", "turns", "chats"), [(40, 1, 40), (8, 4, 2), (9, 4, 3), (1, 3, 1)])
def test_all_questions_together_are_as_many_as_asked_for(requests: int, turns: int, chats: int) -> None:
    found = list(plan_chats(load(num_requests=requests, turns=turns), LENGTHS))
    assert len(found) == chats
    assert sum(len(chat.turns) for chat in found) == requests
    assert [chat.number for chat in found] == list(range(chats))


def test_only_a_limit_ends_a_plan() -> None:
    assert len(list(islice(plan_chats(load(num_requests=None, duration=1.0), LENGTHS), 5000))) == 5000
    times = list(plan_arrivals(load(rate=50.0, num_requests=None, duration=4.0)))
    assert max(times) < 4
    assert len(times) == pytest.approx(200, rel=0.2)


def test_a_share_of_the_chats_has_one_of_the_documents() -> None:
    chats = list(plan_chats(load(num_requests=4000, prefix_share=0.25, prefix_documents=3), LENGTHS))
    documents = [chat.document for chat in chats if chat.document is not None]
    assert len(documents) / len(chats) == pytest.approx(0.25, abs=0.03)
    assert set(documents) == {0, 1, 2}
    assert {chat.document for chat in plan_chats(load(), LENGTHS)} == {None}


def test_a_chat_pauses_before_all_but_its_first_question() -> None:
    chats = list(plan_chats(load(num_requests=3000, turns=3, think=2.0), LENGTHS))
    assert {chat.turns[0].pause for chat in chats} == {0.0}
    later = [turn.pause for chat in chats for turn in chat.turns[1:]]
    assert sum(later) / len(later) == pytest.approx(2.0, rel=0.1)


def test_chats_of_a_file_are_taken_as_they_are_up_to_the_number_of_turns() -> None:
    said = (Row(1, 1, "a"), Row(2, 2, "b"), Row(3, 3, "c"))
    (chat,) = plan_chats(load(num_requests=2, turns=2), [said])
    assert tuple(turn.row for turn in chat.turns) == said[:2]
    assert len(next(plan_chats(load(turns=9), [said])).turns) == 3


@pytest.mark.parametrize(
    "fields", [{"concurrency": 2}, {"rate": None}, {"num_requests": None}], ids=["both", "neither", "no end"]
)
def test_a_load_needs_one_kind_of_arrival_and_an_end(fields: dict[str, Any]) -> None:
    with pytest.raises(LoadError, match=r"^load: "):
        load(**fields)
