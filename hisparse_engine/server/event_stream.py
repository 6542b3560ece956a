"""Server-sent events as an HTTP answer that notices when its client is gone, and when nothing was said for long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hisparse_engine.server.errors import ApiError

HEARTBEAT_SECONDS = 15.0
DONE = b"data: [DONE]\n\n"
_HEARTBEAT = b": still here\n\n"  # a comment; keeps proxies from closing a stream that waits for its turn
_T = TypeVar("_T")


def event(data: Mapping[str, Any]) -> bytes:
    """Return one event; JSON has no line breaks of its own."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


async def unless_client_leaves(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Return what ``work`` returns; cancel it and raise :class:`ClientGoneError` when the client leaves before."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_leaves(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        for one in (task, leaving):
            one.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends ``chunks`` as events; ``close`` is called at the end, however it comes.

    An :class:`ApiError` while the chunks are made becomes the last event, and no ``[DONE]`` follows it.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[dict[str, Any], None],
        close: Callable[[], None],
        headers: Mapping[str, str],
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.status_code = 200
        self.media_type = "text/event-stream"
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers})
        self._chunks, self._close = chunks, close
        self._heartbeat_seconds = heartbeat_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await unless_client_leaves(receive, self._send_all(send))
        except (ClientGoneError, OSError):
            pass
        finally:
            self._close()

    async def _send_all(self, send: Send) -> None:
        async def write(body: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._chunks) as chunks:
            try:
                while (chunk := await self._next(chunks, write)) is not None:
                    await write(event(chunk))
                await write(DONE)
            except ApiError as error:
                await write(event(error.body))
        await write(b"", more=False)

    async def _next(
        self, chunks: AsyncGenerator[dict[str, Any], None], write: Callable[[bytes], Awaitable[None]]
    ) -> dict[str, Any] | None:
        """Return the next chunk, None at the end; send signs of life while there is none."""
        task = asyncio.ensure_future(anext(chunks, None))
        try:
            while not (await asyncio.wait({task}, timeout=self._heartbeat_seconds))[0]:
                await write(_HEARTBEAT)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
