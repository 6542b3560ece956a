"""Tokens on their way from the device: what a launch returns, and what is known once it has arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from hisparse_engine.request import Request
from hisparse_engine.sampling import Logprobs, to_host


class StepOutput:
    """One launch's tokens, one a request; ``tokens()`` waits for them, nothing before does.

    ``started`` is the clock at launch; ``is_decode`` tells a decode step from a prompt's first token;
    ``swap_in_seconds()`` is known once the tokens are.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        tokens: torch.Tensor,
        logprobs: Logprobs,
        *,
        started: float,
        is_decode: bool,
        swap_in_seconds: Callable[[], float] | None = None,
        on_arrival: Callable[[], None] | None = None,
    ) -> None:
        """``tokens [requests]`` int64, on any device: the copy to the host begins here.

        ``on_arrival`` is called once the device is done: what else was copied before has arrived as well.
        """
        self.requests = tuple(requests)
        self.logprobs = logprobs
        self.started = started
        self.is_decode = is_decode
        self.swap_in_seconds = swap_in_seconds
        self._on_arrival = on_arrival
        self._event: torch.cuda.Event | None = None
        self._tokens = to_host(tokens)
        if tokens.device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        for request in self.requests:
            request.num_in_flight += 1

    def tokens(self) -> list[int]:
        """Wait for the device, and return the tokens; their requests have one fewer in flight."""
        if self._event is not None:
            self._event.synchronize()
        if self._on_arrival is not None:
            self._on_arrival()
        for request in self.requests:
            request.num_in_flight -= 1
        tokens: list[int] = self._tokens.tolist()
        return tokens
