"""What the engine asks of whoever computes tokens, and the plain way of doing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch

from hisparse_engine.decoding.output import StepOutput
from hisparse_engine.kv import EagerKVCoordinator, KVLayout
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.passes import DecodePass, PrefillPass
from hisparse_engine.request import Request
from hisparse_engine.sampling import Logprobs, sample
from hisparse_engine.scheduler import Chunk

OnLogits: TypeAlias = Callable[[torch.Tensor, Sequence[Request]], None]
"""Sees the logits ``[>= requests, vocab]`` of every launch, to compare them with somebody else's."""


class Decoder(Protocol):
    """Computes prompt chunks and decode steps. A launch may return before its tokens exist."""

    on_logits: OnLogits | None

    late: bool
    """Whether tokens are read one step after their launch, while the next one runs."""

    def prefill(self, chunk: Chunk) -> StepOutput | None:
        """Compute a chunk; the last one of a fresh prompt gives the first token."""

    def decode(self, requests: Sequence[Request]) -> StepOutput:
        """Compute the next token of each request."""


class EagerDecoder:
    """Operation by operation, on any device, and waits for every step: the reference."""

    late = False

    def __init__(
        self,
        model: DsaModel,
        coordinator: EagerKVCoordinator,
        layout: KVLayout,
        *,
        is_hierarchical: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model, self._coordinator, self._layout = model, coordinator, layout
        self._is_hierarchical, self._clock = is_hierarchical, clock
        self.on_logits: OnLogits | None = None

    def prefill(self, chunk: Chunk) -> StepOutput | None:
        """Compute a chunk over the reference pass."""
        request, seat, started = chunk.request, chunk.request.held_seat, self._clock()
        tokens = request.context[request.num_computed : request.num_computed + chunk.num_tokens]
        self._coordinator.begin_chunk(seat, len(tokens))
        view = PrefillPass(
            self._coordinator,
            seat,
            len(tokens),
            len(request.prompt),
            self._model.config,
            self._layout,
            self._model.device,
            last=chunk.last,
        )
        hidden = self._model.forward(self._tensor(tokens), view)
        if not chunk.last or request.output:
            return None
        return self._output(hidden[-1:], [request], started, is_decode=False)

    def decode(self, requests: Sequence[Request]) -> StepOutput:
        """Compute one step over the reference pass."""
        started = self._clock()
        seats = [request.held_seat for request in requests]
        self._coordinator.begin_step(seats)
        view = DecodePass(self._coordinator, seats, self._model.config, self._layout, self._model.device)
        hidden = self._model.forward(self._tensor([request.last_token for request in requests]), view)
        self._coordinator.end_step()
        return self._output(hidden, requests, started, is_decode=True)

    def _output(
        self, hidden: torch.Tensor, requests: Sequence[Request], started: float, *, is_decode: bool
    ) -> StepOutput:
        logits = self._model.logits(hidden)
        if self.on_logits is not None:
            self.on_logits(logits, requests)
        tokens = sample(logits, requests)
        logprobs = Logprobs(logits, requests, tokens)
        swap_in = self._swap_in_seconds if is_decode and self._is_hierarchical else None
        return StepOutput(
            requests, tokens, logprobs, started=started, is_decode=is_decode, swap_in_seconds=swap_in
        )

    def _swap_in_seconds(self) -> float:
        return self._coordinator.counters.step_seconds

    def _tensor(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.tensor(tokens, dtype=torch.int64, device=self._model.device)
