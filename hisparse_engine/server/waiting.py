"""Waiting for the first of several things, in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def first_of(*things: asyncio.Task[Any] | asyncio.Event, timeout: float | None = None) -> None:
    """Return when one of ``things`` is done or set, or the time is up. Tasks go on."""
    waits = [asyncio.ensure_future(thing.wait()) for thing in things if isinstance(thing, asyncio.Event)]
    tasks = [thing for thing in things if isinstance(thing, asyncio.Task)]
    try:
        await asyncio.wait([*waits, *tasks], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Return what ``work`` returns, or None if ``stop`` comes first; ``work`` ends then."""
    task = asyncio.create_task(work)
    await first_of(task, stop)
    if task.done():
        return task.result()
    task.cancel()
    return None
