"""A stream over ASGI: its events, its end, its signs of life, and what happens when its client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

from starlette.types import Message

from hisparse_engine.server.errors import ApiError
from hisparse_engine.server.event_stream import ClientGoneError, EventStream, unless_client_leaves

SCOPE: dict[str, Any] = {"type": "http"}


class Client:
    """The other end of an ASGI connection; leaves when told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.left = asyncio.Event()
        self.got_something = asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if message.get("body"):
            self.got_something.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def numbers(count: int) -> AsyncGenerator[dict[str, Any], None]:
    for number in range(count):
        yield {"number": number, "text": "a\nb"}


def stream_of(chunks: AsyncGenerator[dict[str, Any], None], **options: Any) -> tuple[Client, list[str]]:
    """Send ``chunks`` to a client that stays; return it, and a mark if the stream was closed."""
    closed: list[str] = []

    async def run() -> Client:
        client = Client()
        stream = EventStream(chunks, lambda: closed.append("closed"), {"X-Request-Id": "i"}, **options)
        await stream(SCOPE, client.receive, client.send)
        return client

    return asyncio.run(run()), closed


def test_each_chunk_is_an_event_and_the_last_one_says_done() -> None:
    client, closed = stream_of(numbers(2))
    *events, done, rest = client.body.split(b"\n\n")
    assert [json.loads(event.removeprefix(b"data: "))["number"] for event in events] == [0, 1]
    assert (done, rest, closed) == (b"data: [DONE]", b"", ["closed"])
    headers = dict(client.messages[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"x-request-id"] == b"i"
    assert b"content-length" not in headers
    assert client.messages[-1]["more_body"] is False


def test_an_error_is_the_last_event_and_nothing_says_done() -> None:
    async def failing() -> AsyncGenerator[dict[str, Any], None]:
        yield {"number": 0}
        raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "lost")

    client, closed = stream_of(failing())
    _, error, rest = client.body.split(b"\n\n")
    assert json.loads(error.removeprefix(b"data: "))["error"]["message"] == "lost"
    assert (rest, closed) == (b"", ["closed"])


def test_a_stream_that_has_nothing_to_say_shows_that_it_lives() -> None:
    client, _ = stream_of(waits_until_heartbeats(2), heartbeat_seconds=0.001)
    assert client.body.count(b": still here\n\n") >= 2
    assert client.body.endswith(b'data: {"number":0}\n\ndata: [DONE]\n\n')


async def waits_until_heartbeats(count: int) -> AsyncGenerator[dict[str, Any], None]:
    for _ in range(count * 100):
        await asyncio.sleep(0.001)
    yield {"number": 0}


def test_a_client_that_leaves_ends_the_work() -> None:
    ended: list[str] = []

    async def endless() -> AsyncGenerator[dict[str, Any], None]:
        try:
            yield {"number": 0}
            await asyncio.Event().wait()
        finally:
            ended.append("generator")

    async def run() -> None:
        client = Client()
        stream = EventStream(endless(), lambda: ended.append("closed"), {})
        serving = asyncio.create_task(stream(SCOPE, client.receive, client.send))
        await client.got_something.wait()
        client.left.set()
        await serving

    asyncio.run(run())
    assert ended == ["generator", "closed"]


def test_a_connection_that_breaks_while_writing_closes_the_stream() -> None:
    closed: list[str] = []

    async def run() -> None:
        async def broken(_message: Message) -> None:
            raise OSError("gone")

        stream = EventStream(numbers(1), lambda: closed.append("closed"), {})
        await stream(SCOPE, Client().receive, broken)

    asyncio.run(run())
    assert closed == ["closed"]


def test_work_is_cancelled_when_its_client_leaves_and_returned_when_it_stays() -> None:
    async def run() -> None:
        client = Client()

        async def work() -> int:
            await asyncio.sleep(0)
            return 7

        assert await unless_client_leaves(client.receive, work()) == 7
        cancelled = asyncio.Event()

        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        client.left.set()
        try:
            await unless_client_leaves(client.receive, endless())
        except ClientGoneError:
            assert cancelled.is_set()
        else:
            raise AssertionError("nobody noticed")

    asyncio.run(run())
