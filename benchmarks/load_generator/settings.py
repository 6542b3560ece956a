"""What a person may set: how much arrives and when, how it is asked, what counts as good. Knows no server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hisparse_engine.errors import HiSparseError

Api = Literal["completions", "chat"]


class LoadError(HiSparseError):
    """Something that a person gave cannot be used; the message says what, why, and what to do."""


@dataclass(frozen=True)
class Load:
    """What arrives. Either ``rate`` (open loop) or ``concurrency`` (closed loop) is set."""

    rate: float | None = None
    """Chats a second, on average: Poisson arrivals, whatever the server does."""
    concurrency: int | None = None
    """Clients, of which each begins its next chat when its last one has ended."""
    num_requests: int | None = None
    duration: float | None = None
    """Seconds after which nothing new begins."""
    ramp: float = 0.0
    """Seconds over which the rate, or the number of clients, rises from 0."""
    turns: int = 1
    think: float = 0.0
    """Mean seconds between an answer and the next question of its chat; exponentially distributed."""
    prefix_share: float = 0.0
    """Share of the chats that begin with a common document."""
    prefix_documents: int = 1
    prefix_tokens: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.concurrency is None):
            raise LoadError("load: give either --rate or --concurrency")
        if self.num_requests is None and self.duration is None:
            raise LoadError("load: it would never end; give --num-requests, --duration or both")


@dataclass(frozen=True)
class Asking:
    """How each request is asked."""

    api: Api = "completions"
    temperature: float = 0.0
    max_tokens: int | None = None
    """What every request may generate; the output length of its row unless given."""
    stop: str | None = None
    """Ends an answer at this text; without it answers go on to their limit where the server knows ``ignore_eos``."""
    ignore_eos: bool = True
    timeout: float = 120.0
    """Seconds that a request may take, from the moment it is sent."""
    retries: int = 0
    """How often a refused request (429, 503) is sent again, after the time that ``Retry-After`` says."""


@dataclass(frozen=True)
class Objective:
    """What a good answer is: its first token, and on average the next ones, come within these seconds."""

    ttft: float = 2.0
    itl: float = 0.2
