"""One HTTP request's generation: its choices, from submission to the last piece, and its end at any moment.

Whoever opens an answer closes it; closing aborts what still runs, so that a client that left costs no further step.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from hisparse_engine.server.choice import Choice, Piece
from hisparse_engine.server.engine_client import (
    EngineClient,
    EngineGone,
    Generated,
    Handle,
    HasPlace,
    Job,
    Refusal,
    Update,
)
from hisparse_engine.server.errors import ApiError, bad_request, engine_failed, engine_gone, queue_full


class Usage(NamedTuple):
    """Token counts over all choices."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Answer:
    """The choices of one request.

    ``param`` names the field that the prompts came in; ``retry_after`` is for a client that finds the queue full.
    """

    def __init__(
        self, engine: EngineClient, jobs: Sequence[Job], choices: Sequence[Choice],
        *, param: str, retry_after: int,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._jobs, self._choices = jobs, choices
        self._param, self._retry_after = param, retry_after
        self._handles: list[Handle] = []
        self._updates: asyncio.Queue[tuple[int, Update | ApiError]] = asyncio.Queue()
        self._early: deque[tuple[int, Generated]] = deque()  # came while others still waited for their place

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def usage(self) -> Usage:
        """The counts so far; complete after the last piece."""
        return Usage(
            sum(len(job.prompt) for job in self._jobs),
            sum(choice.num_tokens for choice in self._choices),
            sum(handle.cached_tokens for handle in self._handles),
        )

    async def start(self) -> None:
        """Submit every choice; return when the engine has taken them all, raise :class:`ApiError` when not."""
        for index, job in enumerate(self._jobs):
            self._handles.append(self._engine.submit(job, partial(self._take, index)))
        missing = len(self._jobs)
        while missing:
            index, update = await self._updates.get()
            if isinstance(update, HasPlace):
                missing -= 1
            elif isinstance(update, Generated):
                self._early.append((index, update))
            else:
                raise self._error(index, update)

    async def pieces(self) -> AsyncGenerator[tuple[int, Piece], None]:
        """Yield every piece with the index of its choice, until all choices are finished."""
        while not all(choice.finished for choice in self._choices):
            index, update = self._early.popleft() if self._early else await self._updates.get()
            if not isinstance(update, Generated):
                raise self._error(index, update)
            if not self._choices[index].finished:
                yield index, self._piece(index, update)

    def _piece(self, index: int, update: Generated) -> Piece:
        if update.outcome not in (None, "stop", "length"):
            raise engine_failed(f"the engine gave the request up ({update.outcome}); send it again")
        choice = self._choices[index]
        piece = choice.push(update.tokens, update.logprobs, update.outcome)
        if choice.finished:  # by a stop string: the engine does not know yet
            self._engine.end(self._handles[index], "stop")
        return piece

    def _error(self, index: int, update: Update | ApiError) -> ApiError:
        match update:
            case ApiError():
                return update
            case Refusal(reason="queue"):
                return queue_full(update.message, self._retry_after)
            case Refusal():
                which = f"prompt {index}: " if len(self._jobs) > 1 else ""
                code = "request_too_large" if update.reason == "capacity" else None
                return bad_request(which + update.message, param=self._param, code=code)
            case EngineGone():
                return engine_gone()
            case _:
                raise AssertionError(f"not an end: {update}")

    def _take(self, index: int, update: Update) -> None:
        self._updates.put_nowait((index, update))

    def abort(self, error: ApiError) -> None:
        """End the answer now, and tell whoever reads its pieces why."""
        self.close()
        self._updates.put_nowait((0, error))

    def close(self) -> None:
        """Abort what still runs."""
        for handle in self._handles:
            self._engine.end(handle, "aborted")
