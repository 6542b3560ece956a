"""A request: what was asked, how far it is, and what came out. One object from arrival to the last token."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from hisparse_engine.errors import HiSparseError
from hisparse_engine.kv import Seat
from hisparse_engine.memory.prefix_tree import Tokens

MAX_LOGPROBS = 20
"""OpenAI's limit for ``top_logprobs``."""


class RequestError(HiSparseError):
    """A request asks for something that cannot be done; the message can be shown to whoever sent it."""


class Status(enum.Enum):
    """Where a request is. Only ``RUNNING`` requests decode; ``FINISHED`` holds no slot."""

    WAITING = "waiting"
    PREFILL = "prefill"
    STAGING = "staging"
    RUNNING = "running"
    FINISHED = "finished"


class Outcome(enum.Enum):
    """How a request ended; the closed label set of ``hisparse_requests_total``."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens and when to stop. Temperature 0 is greedy."""

    max_new_tokens: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    """How many of the likeliest tokens to report beside each chosen one; None reports nothing and costs nothing."""

    def __post_init__(self) -> None:
        checks = (
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature, 0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "in (0, 1]"),
            ("seed", self.seed, 0 <= self.seed < 2**63, "in [0, 2^63)"),
            (
                "logprobs",
                self.logprobs,
                self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS,
                f"in [0, {MAX_LOGPROBS}]",
            ),
        )
        for name, value, holds, expected in checks:
            if not holds:
                raise RequestError(f"{name}: must be {expected}, got {value}")


class TokenLogprobs(NamedTuple):
    """Log-probabilities where one token was chosen: its own, and the likeliest tokens with theirs, best first."""

    chosen: float
    top_ids: tuple[int, ...]
    top: tuple[float, ...]


@dataclass(eq=False)
class Request:
    """One request's whole state; times are seconds of the engine's monotonic clock."""

    id: int
    prompt: tuple[int, ...]
    params: SamplingParams
    arrived: float
    status: Status = Status.WAITING
    outcome: Outcome | None = None
    error: str | None = None
    seat: Seat | None = None
    num_computed: int = 0  # tokens of ``context`` whose rows exist
    num_cached_tokens: int = 0  # prompt tokens whose rows another request had computed
    num_retractions: int = 0
    num_in_flight: int = (
        0  # tokens that the device has been told to compute and that are not in ``output`` yet
    )
    output: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)  # one for each of ``output``, if asked for
    last_token_time: float | None = None
    _prompt: Tokens | None = field(default=None, repr=False)
    _generator: torch.Generator | None = field(default=None, repr=False)

    @property
    def max_tokens(self) -> int:
        """KV rows that the request may come to need: the last new token never gets one."""
        return len(self.prompt) + self.params.max_new_tokens - 1

    @property
    def context(self) -> tuple[int, ...]:
        """Tokens whose rows must exist before the next decode step: the prompt, and what it generated if it resumes."""
        return self.prompt + tuple(self.output[:-1])

    @property
    def reusable(self) -> Tokens:
        """Tokens whose rows may be another's: all of the context, less the one whose logits are needed at first."""
        return self.tokens(len(self.context) - (0 if self.output else 1))

    def tokens(self, length: int) -> Tokens:
        """Return the first ``length`` tokens of prompt and output."""
        if self._prompt is None:
            self._prompt = np.array(self.prompt, dtype=np.int32)
        output = np.array(self.output[: max(0, length - len(self.prompt))], dtype=np.int32)
        return np.concatenate([self._prompt[:length], output])

    @property
    def wants_more(self) -> bool:
        """Whether another token is to be computed, as far as is known before those in flight have arrived."""
        return len(self.output) + self.num_in_flight < self.params.max_new_tokens

    @property
    def last_token(self) -> int:
        """The newest token, whose row the next decode step computes."""
        return self.output[-1]

    @property
    def held_seat(self) -> Seat:
        """The seat of an admitted request."""
        assert self.seat is not None, f"request {self.id} holds no slots while {self.status.value}"
        return self.seat

    @property
    def generator(self) -> torch.Generator:
        """The request's own random stream, so that its tokens do not depend on its neighbours."""
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(self.params.seed)
        return self._generator
