"""What front and engine process say to each other: frozen values, each one JSON array that begins with its name.

Commands go to the engine process, events come back. All of them are checked where a person's input enters, which is
the front; here only the form counts.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class MessageError(Exception):
    """A payload is none of the messages."""


class Start(NamedTuple):
    """The first command: what to load, and how."""

    model: str
    served_name: str
    engine_fields: dict[str, Any]
    tier_fields: dict[str, Any]
    stats_dir: str | None
    engine_name: str
    max_waiting: int


class Submit(NamedTuple):
    """Queue a request; ``id`` is the front's, and new for each."""

    id: int
    prompt: list[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    ignore_eos: bool
    logprobs: int | None = None


class End(NamedTuple):
    """End a request now; ``outcome`` says why: ``stop`` when it has said enough, ``aborted`` when nobody listens."""

    id: int
    outcome: str


class Drain(NamedTuple):
    """No command but ``End`` will follow: stop once every request has ended."""


class Ready(NamedTuple):
    """The engine is loaded. ``max_rows``: KV rows of the largest request that the pools can hold alone."""

    max_model_len: int
    max_rows: int
    device_tokens: int
    host_tokens: int
    device_buffer_size: int
    top_k: int
    stats_dir: str


class Failed(NamedTuple):
    """The engine cannot start; ``message`` is for the person who started it."""

    message: str


class Refused(NamedTuple):
    """A request will not run. ``reason`` is ``request``, ``capacity`` or ``queue``."""

    id: int
    reason: str
    message: str


class NewTokens(NamedTuple):
    """One request's new tokens; ``logprobs`` has (chosen, top ids, top logprobs) for each where they were asked for."""

    id: int
    tokens: list[int]
    logprobs: list[tuple[float, list[int], list[float]]]


class Ended(NamedTuple):
    """A request ended by itself."""

    id: int
    outcome: str


class Accepted(NamedTuple):
    """A request has its place, running or waiting."""

    id: int


class CachedTokens(NamedTuple):
    """How many of a request's prompt tokens were not computed, because another had computed their rows."""

    id: int
    num_tokens: int


class Step(NamedTuple):
    """All that one engine step brought, in the order in which it holds."""

    accepted: list[Accepted]
    cached: list[CachedTokens]
    tokens: list[NewTokens]
    ended: list[Ended]


class Stopped(NamedTuple):
    """Every request has ended and the engine process goes; ``summary`` is for the person who watches."""

    summary: str


Command = Start | Submit | End | Drain
Event = Ready | Failed | Refused | Step | Stopped
_TYPES: dict[str, Any] = {
    kind.__name__: kind for kind in (Start, Submit, End, Drain, Ready, Failed, Refused, Step, Stopped)
}


def encode(message: Command | Event) -> bytes:
    """Return the message's payload."""
    return json.dumps([type(message).__name__, *message], separators=(",", ":")).encode()


def decode(payload: bytes) -> Command | Event:
    """Return the message that ``payload`` is."""
    try:
        name, *fields = json.loads(payload)
        message: Command | Event = _TYPES[name](*fields)
    except (ValueError, KeyError, TypeError) as error:
        raise MessageError(f"not a message: {payload[:80]!r}") from error
    return _typed_parts(message) if isinstance(message, Step) else message


def _typed_parts(step: Step) -> Step:
    return Step(
        [Accepted(*part) for part in step.accepted],
        [CachedTokens(*part) for part in step.cached],
        [NewTokens(*part) for part in step.tokens],
        [Ended(*part) for part in step.ended],
    )
