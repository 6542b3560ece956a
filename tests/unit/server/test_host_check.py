"""A keyless server on loopback answers to loopback names alone."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from hisparse_engine.server.host_check import HostCheck, is_loopback

OURS = [
    "localhost",
    "LOCALHOST:8000",
    "localhost.",
    "a.localhost:1",
    "127.0.0.1",
    "127.9.9.9:80",
    "[::1]",
    "[::1]:80",
    "::1",
]
FOREIGN = ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1:8000", "[fe80::1]", "xlocalhost"]  # fmt: skip


@pytest.mark.parametrize("host", OURS)
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_names_of_others(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("hosts", "status"),
    [(["localhost"], 200), (["evil.example"], 403), ([], 403), (["localhost", "evil"], 403)],
)
def test_only_the_first_kind_gets_through(hosts: list[str], status: int) -> None:
    sent: list[Message] = []

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"host", host.encode()) for host in hosts]}
    asyncio.run(HostCheck(application)(scope, receive, send))
    assert sent[0]["status"] == status
