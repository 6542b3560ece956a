"""The front's end of the wire: requests go in, each one's updates come out where it wants them. Knows no HTTP.

For the event loop's thread. Whatever happens, every open request gets an update that ends it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hisparse_engine.server.frames import FrameReader, frame
from hisparse_engine.server.messages import (
    Command,
    Drain,
    End,
    Event,
    MessageError,
    Refused,
    Step,
    Stopped,
    Submit,
    decode,
    encode,
)

_READ_BYTES = 1 << 16


class HasPlace(NamedTuple):
    """The engine took the request."""


class Generated(NamedTuple):
    """New tokens, each with its log-probabilities where they were asked for.

    ``outcome``, a label of ``hisparse_requests_total``, comes with the last ones.
    """

    tokens: list[int]
    logprobs: list[tuple[float, list[int], list[float]]]
    outcome: str | None


class Refusal(NamedTuple):
    """The engine will not run the request; ``reason`` as in :class:`~hisparse_engine.server.messages.Refused`."""

    reason: str
    message: str


class EngineGone(NamedTuple):
    """The engine process has ended, and the request with it."""


Update = HasPlace | Generated | Refusal | EngineGone
OnUpdate = Callable[[Update], None]


class Job(NamedTuple):
    """What to generate: the fields of ``Submit`` but its id."""

    prompt: list[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    ignore_eos: bool
    logprobs: int | None


@dataclass(eq=False)
class Handle:
    """A request that was submitted; ``open`` until it ended, by itself or by :meth:`EngineClient.end`."""

    id: int
    on_update: OnUpdate
    cached_tokens: int = 0
    open: bool = True


class EngineClient:
    """One engine process, seen from the front."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._ids = itertools.count()
        self._open: dict[int, Handle] = {}
        self._gone = False
        self.summary: str | None = None
        """The engine's last words, once it has stopped in good order."""

    def send(self, command: Command) -> None:
        """Send a command; one that an engine process no longer hears is lost, as its requests are."""
        if not self._gone:
            self._writer.write(frame(encode(command)))

    def submit(self, job: Job, on_update: OnUpdate) -> Handle:
        """Queue a request. Its updates come from :meth:`run`: one that it has a place, or one that it has none."""
        handle = Handle(next(self._ids), on_update)
        if self._gone:
            handle.open = False
            on_update(EngineGone())
            return handle
        self._open[handle.id] = handle
        self.send(Submit(handle.id, *job))
        return handle

    def end(self, handle: Handle, outcome: str) -> None:
        """End a request before it ends by itself; no update follows."""
        if handle.open:
            self._forget(handle)
            self.send(End(handle.id, outcome))

    def drain(self) -> None:
        """Ask the engine process to go once its requests have ended."""
        self.send(Drain())

    async def first_event(self) -> Event | None:
        """Return how the start went; None when the process ended before it could tell."""
        while data := await self._read():
            for payload in self._frames.feed(data):
                return _event(payload)
        return None

    async def run(self) -> None:
        """Hand out updates until the engine process ends; then tell whoever still waits."""
        try:
            while data := await self._read():
                for payload in self._frames.feed(data):
                    self._dispatch(_event(payload))
        finally:
            self._gone = True
            self._writer.close()
            for handle in list(self._open.values()):
                self._forget(handle)
                handle.on_update(EngineGone())

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(_READ_BYTES)
        except OSError:  # reset: it died with commands unread
            return b""

    def _dispatch(self, event: Event) -> None:
        match event:
            case Step():
                self._dispatch_step(event)
            case Refused():
                if handle := self._open.get(event.id):
                    self._forget(handle)
                    handle.on_update(Refusal(event.reason, event.message))
            case Stopped():
                self.summary = event.summary
            case _:
                raise MessageError(f"unexpected from a running engine: {event}")

    def _dispatch_step(self, step: Step) -> None:
        for accepted in step.accepted:
            self._tell(accepted.id, HasPlace())
        for cached in step.cached:
            if handle := self._open.get(cached.id):
                handle.cached_tokens = cached.num_tokens
        outcomes = {ended.id: ended.outcome for ended in step.ended}
        for new in step.tokens:
            self._generated(new.id, Generated(new.tokens, new.logprobs, outcomes.pop(new.id, None)))
        for request_id, outcome in outcomes.items():
            self._generated(request_id, Generated([], [], outcome))

    def _generated(self, request_id: int, update: Generated) -> None:
        handle = self._open.get(request_id)
        if handle is not None and update.outcome is not None:
            self._forget(handle)
        if handle is not None:
            handle.on_update(update)

    def _tell(self, request_id: int, update: Update) -> None:
        if handle := self._open.get(request_id):  # one that was ended meanwhile has nobody to tell
            handle.on_update(update)

    def _forget(self, handle: Handle) -> None:
        handle.open = False
        del self._open[handle.id]


def _event(payload: bytes) -> Event:
    message = decode(payload)
    if isinstance(message, Event):
        return message
    raise MessageError(f"the engine process sent {message}")
