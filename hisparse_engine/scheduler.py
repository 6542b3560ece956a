"""Who runs next: admission in order of arrival, chunked prefill, continuous decode. Knows slots, not tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from hisparse_engine.kv import KVCoordinator
from hisparse_engine.request import Outcome, Request, Status


class Chunk(NamedTuple):
    """``num_tokens`` more prompt tokens of one request; ``last`` when they complete the prompt."""

    request: Request
    num_tokens: int

    @property
    def last(self) -> bool:
        """Whether this chunk completes the prompt."""
        return self.request.num_computed + self.num_tokens == len(self.request.prompt)


class Batch(NamedTuple):
    """One step's work."""

    prefill: tuple[Chunk, ...]
    decode: tuple[Request, ...]


class Scheduler:
    """First come, first served: nobody overtakes the head of the queue, so nobody starves.

    Admission accounts a request's worst case in every pool before it starts: pools may be full, never overrun.
    """

    def __init__(self, coordinator: KVCoordinator, *, max_running: int, prefill_chunk_size: int) -> None:
        self._coordinator = coordinator
        self._max_running = max_running
        self._chunk_size = prefill_chunk_size
        self.waiting: deque[Request] = deque()
        self.admitted: list[Request] = []  # in order of admission; each holds a seat

    def add(self, request: Request) -> None:
        """Queue a request."""
        self.waiting.append(request)

    def schedule(self) -> Batch:
        """Choose this step's prompt chunks and decode batch."""
        self._promote_staged()
        self._admit()
        return Batch(tuple(self._chunks()), tuple(self.with_status(Status.RUNNING)))

    def finish(self, request: Request, outcome: Outcome) -> None:
        """End a request at whatever stage it is, and free what it holds."""
        if request.seat is not None:
            self.admitted.remove(request)
            self._coordinator.release(request.seat)
            request.seat = None
        elif request.status is Status.WAITING:
            self.waiting.remove(request)
        request.status, request.outcome = Status.FINISHED, outcome

    def with_status(self, status: Status) -> list[Request]:
        """Admitted requests in one status, oldest first."""
        return [request for request in self.admitted if request.status is status]

    @property
    def has_work(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self.waiting or self.admitted)

    def _promote_staged(self) -> None:
        for request in self.with_status(Status.STAGING):
            if self._coordinator.is_staged(request.held_seat):
                request.status = Status.RUNNING

    def _admit(self) -> None:
        while self.waiting and len(self.admitted) < self._max_running:
            if not self._coordinator.can_admit(self.waiting[0].max_tokens):
                return
            request = self.waiting.popleft()
            request.seat = self._coordinator.admit(request.max_tokens)
            request.status = Status.PREFILL
            self.admitted.append(request)

    def _chunks(self) -> Iterator[Chunk]:
        budget = self._chunk_size
        for request in self.with_status(Status.PREFILL):
            if budget == 0:
                return
            count = min(budget, len(request.prompt) - request.num_computed)
            budget -= count
            yield Chunk(request, count)
