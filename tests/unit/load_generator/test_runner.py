"""Who asks when: open and closed loops, chats that go on and chats that end, with a client that only remembers."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from benchmarks.load_generator.client import Client
from benchmarks.load_generator.lengths import Row
from benchmarks.load_generator.records import Outcome, Record
from benchmarks.load_generator.runner import Runner, warm_up
from benchmarks.load_generator.settings import Asking, Load, LoadError
from benchmarks.load_generator.texts import CharacterWriter, Prompt


class FakeClient:
    """Answers after two turns of the event loop; ``fails`` says which requests it refuses."""

    def __init__(self, fails: tuple[int, ...] = ()) -> None:
        self.asking, self.writer = Asking(), CharacterWriter()
        self.fails, self.asked = fails, list[Any]()
        self.now_open = self.most_open = 0
        self._zero = time.monotonic()

    def clock(self) -> float:
        return time.monotonic() - self._zero

    async def ask(self, record: Record, words: dict[str, Any], seed: int) -> Prompt:
        number = len(self.asked)
        self.asked.append(words["prompt"])
        record.sent = self.clock()
        self.now_open += 1
        self.most_open = max(self.most_open, self.now_open)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.now_open -= 1
        record.outcome = Outcome.REFUSED if number in self.fails else Outcome.OK
        record.ended = self.clock()
        return f" answer {number}."


def run(client: FakeClient, rows: tuple[Row, ...] = (Row(10, 5),), **load: Any) -> list[Record]:
    runner = Runner(cast(Client, client), Load(**load), [rows])
    asyncio.run(runner.run())
    return runner.records


def test_an_open_loop_asks_when_requests_are_due() -> None:
    records = run(FakeClient(), rate=500.0, num_requests=30)
    assert len(records) == 30
    assert sorted(r.scheduled for r in records) == [r.scheduled for r in records]
    assert all(record.sent >= record.scheduled for record in records)
    assert records[-1].scheduled == pytest.approx(30 / 500, rel=0.6)


@pytest.mark.parametrize("clients", [1, 3])
def test_a_closed_loop_has_as_many_open_requests_as_clients(clients: int) -> None:
    client = FakeClient()
    records = run(client, concurrency=clients, num_requests=12)
    assert len(records) == 12
    assert client.most_open == clients


def test_nothing_begins_after_the_duration() -> None:
    records = run(FakeClient(), concurrency=2, duration=0.05)
    assert records
    assert max(record.scheduled for record in records) < 0.05


def test_each_question_of_a_chat_brings_everything_said_before() -> None:
    client = FakeClient()
    records = run(client, concurrency=1, num_requests=3, turns=3)
    first, second, third = client.asked
    assert second.startswith(f"{first} answer 0.")
    assert third.startswith(f"{second} answer 1.")
    assert [(record.chat, record.turn) for record in records] == [(0, 0), (0, 1), (0, 2)]


def test_a_missing_answer_ends_its_chat_and_no_other() -> None:
    records = run(FakeClient(fails=(1,)), concurrency=1, num_requests=6, turns=3)
    assert [(record.chat, record.turn) for record in records] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


def test_chats_with_one_document_begin_alike_and_others_do_not() -> None:
    client = FakeClient()
    run(client, concurrency=1, num_requests=2, prefix_share=1.0, prefix_tokens=50)
    one, two = client.asked
    assert (one[:200], len(one), len(two)) == (two[:200], 240, 240)
    assert one[200:] != two[200:]


def test_the_limit_is_the_rows_unless_one_is_given() -> None:
    client = FakeClient()
    assert {record.limit for record in run(client, concurrency=1, num_requests=2)} == {5}
    client.asking = Asking(max_tokens=77)
    assert {record.limit for record in run(client, concurrency=1, num_requests=2)} == {77}


def test_the_warm_up_asks_other_things_than_the_run_and_must_be_answered() -> None:
    client, load = FakeClient(), Load(concurrency=1, num_requests=2)
    asyncio.run(warm_up(cast(Client, client), load, 2))
    run(client, concurrency=1, num_requests=2)
    beginnings = {prompt[:30] for prompt in client.asked}
    assert (len(client.asked), len(beginnings)) == (4, 4)
    with pytest.raises(LoadError, match="warm-up: a request was not answered"):
        asyncio.run(warm_up(cast(Client, FakeClient(fails=(0,))), load, 1))
