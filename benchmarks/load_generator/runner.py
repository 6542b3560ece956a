"""Runs a plan: begins each chat when it is due, asks its questions in turn, keeps the records. Judges nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from benchmarks.load_generator.client import Client
from benchmarks.load_generator.lengths import Conversation, Row
from benchmarks.load_generator.plan import Chat, plan_arrivals, plan_chats
from benchmarks.load_generator.records import Outcome, Record
from benchmarks.load_generator.settings import Load, LoadError
from benchmarks.load_generator.talk import new_talk, question


class Runner:
    """One run. ``records`` has a request from the moment that it is due."""

    def __init__(self, client: Client, load: Load, conversations: Sequence[Conversation]) -> None:
        self.records: list[Record] = []
        self._client, self._load = client, load
        self._chats = plan_chats(load, conversations)

    async def run(self) -> None:
        """Begin every chat, and return when the last one has ended."""
        async with asyncio.TaskGroup() as tasks:
            if self._load.rate is not None:
                await self._open_loop(tasks)
            else:
                for number in range(self._load.concurrency or 0):
                    tasks.create_task(self._user(number))

    async def _open_loop(self, tasks: asyncio.TaskGroup) -> None:
        for due, chat in zip(plan_arrivals(self._load), self._chats, strict=False):
            await asyncio.sleep(due - self._client.clock())
            tasks.create_task(self._chat(chat, due))

    async def _user(self, number: int) -> None:
        """One client of a closed loop."""
        await asyncio.sleep(self._load.ramp * number / (self._load.concurrency or 1))
        for chat in self._until_the_end(self._chats):
            await self._chat(chat, self._client.clock())

    def _until_the_end(self, chats: Iterator[Chat]) -> Iterator[Chat]:
        while self._load.duration is None or self._client.clock() < self._load.duration:
            chat = next(chats, None)
            if chat is None:
                return
            yield chat

    async def _chat(self, chat: Chat, due: float) -> None:
        """Ask a chat's questions; an answer that is missing ends it."""
        asking, talk = self._client.asking, new_talk(self._client.asking.api)
        for index, turn in enumerate(chat.turns):
            due += turn.pause
            await asyncio.sleep(due - self._client.clock())
            limit = asking.max_tokens or turn.row.output_tokens
            record = Record(len(self.records), chat.number, index, due, limit)
            self.records.append(record)
            words = talk.ask(question(self._load, self._client.writer, chat, index))
            answer = await self._client.ask(record, words, chat.seed)
            if record.outcome is not Outcome.OK:
                return
            talk.hear(answer)
            due = record.ended


async def warm_up(client: Client, load: Load, requests: int) -> None:
    """Ask some questions that the run itself will not ask; :class:`LoadError` when one is not answered."""
    if not requests:
        return
    small = (Row(prompt_tokens=64, output_tokens=8),)
    first = Runner(client, Load(concurrency=1, num_requests=requests, seed=-1 - load.seed), [small])
    await first.run()
    failed = next((record for record in first.records if record.outcome is not Outcome.OK), None)
    if failed is not None:
        raise LoadError(f"warm-up: a request was not answered ({failed.outcome}: {failed.message})")
