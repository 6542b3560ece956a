"""Who runs next: admission in order of arrival, chunked prefill, continuous decode. Knows slots, not tensors."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from hisparse_engine.kv import KVCoordinator
from hisparse_engine.prefix import longest_match
from hisparse_engine.request import Outcome, Request, Status
from hisparse_engine.reservation import GROWTH_TOKENS, Reservation, WorstCase

_log = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """``num_tokens`` more tokens of one request's context; ``last`` when they complete it."""

    request: Request
    num_tokens: int
    last: bool


class Batch(NamedTuple):
    """One step's work."""

    prefill: tuple[Chunk, ...]
    decode: tuple[Request, ...]


class Scheduler:
    """First come, first served: nobody overtakes the head of the queue, so nobody starves.

    A request starts once every pool can promise it what the reservation policy asks for. One that outgrows its
    promise gets more slots, if need be from the youngest request, which is retracted: it gives up its slots, goes back
    to the head of the queue, and resumes where it was. Pools may be full, never overrun; no request is lost.
    """

    def __init__(
        self,
        coordinator: KVCoordinator,
        *,
        max_running: int,
        prefill_chunk_size: int,
        reservation: Reservation | None = None,
        prefix_reuse: bool = False,
    ) -> None:
        self._coordinator = coordinator
        self._reservation = reservation or WorstCase()
        self._prefix_reuse = prefix_reuse
        self._max_running = max_running
        self._chunk_size = prefill_chunk_size
        self.waiting: deque[Request] = deque()
        self.admitted: list[Request] = []  # in order of admission; each holds a seat
        self.num_retractions = 0
        self.num_prefix_hit_tokens = 0

    def add(self, request: Request) -> None:
        """Queue a request."""
        self.waiting.append(request)

    def schedule(self) -> Batch:
        """Choose this step's prompt chunks and decode batch."""
        self._promote_staged()
        self._make_room()
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
        if outcome in (Outcome.STOP, Outcome.LENGTH):
            self._reservation.observe(len(request.output))
        request.status, request.outcome = Status.FINISHED, outcome

    def retract(self, request: Request) -> None:
        """Take an admitted request's slots; it waits at the head of the queue, keeps its tokens, and resumes later."""
        self.admitted.remove(request)
        self._coordinator.release(request.held_seat)
        request.seat, request.num_computed, request.status = None, 0, Status.WAITING
        request.num_retractions += 1
        self.num_retractions += 1
        self.waiting.appendleft(request)
        _log.warning(
            "pools are full: retracted request %d after %d new tokens; it will resume",
            request.id,
            len(request.output),
        )

    def expel_all(self) -> list[Request]:
        """Take every admitted request's seat without giving its slots back, because nobody knows whose they are."""
        expelled, self.admitted = self.admitted, []
        for request in expelled:
            request.seat, request.status, request.outcome = None, Status.FINISHED, Outcome.FAILED
        self._coordinator.reset()
        return expelled

    def with_status(self, *statuses: Status) -> list[Request]:
        """Admitted requests in any of ``statuses``, oldest first."""
        return [request for request in self.admitted if request.status in statuses]

    @property
    def has_work(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self.waiting or self.admitted)

    def _promote_staged(self) -> None:
        for request in self.with_status(Status.STAGING):
            if self._coordinator.is_staged(request.held_seat):
                request.status = Status.RUNNING

    def _make_room(self) -> None:
        """Extend every seat that the next token would overflow, oldest request first."""
        for request in self.with_status(Status.RUNNING):
            while request.seat is not None and request.seat.length >= request.seat.promised:
                more = min(GROWTH_TOKENS, request.max_tokens - request.seat.promised)
                if not self._coordinator.extend(request.seat, more):
                    self.retract(self.admitted[-1])

    def _admit(self) -> None:
        while self.waiting and len(self.admitted) < self._max_running:
            promised = self._reservation.promise(self.waiting[0])
            if not self._coordinator.can_admit(self.waiting[0].max_tokens, promised):
                return
            request = self.waiting.popleft()
            request.seat = self._coordinator.admit(request.max_tokens, promised)
            request.status = Status.PREFILL
            self.admitted.append(request)

    def _chunks(self) -> Iterator[Chunk]:
        budget = self._chunk_size
        for request in self.with_status(Status.PREFILL):
            if budget == 0:
                return
            self._reuse_prefix(request)
            count = min(budget, len(request.context) - request.num_computed)
            budget -= count
            yield Chunk(request, count, request.num_computed + count == len(request.context))

    def _reuse_prefix(self, request: Request) -> None:
        found = longest_match(request, self.admitted) if self._prefix_reuse else None
        if found is not None:
            self._coordinator.copy_prefix(found.donor.held_seat, request.held_seat, found.num_tokens)
            self.num_prefix_hit_tokens += found.num_tokens - request.num_computed
            request.num_computed = found.num_tokens
