"""Who runs next: admission in order of arrival, chunked prefill, continuous decode. Knows slots, not tensors."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from hisparse_engine.kv import KVCoordinator
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
    ) -> None:
        self._coordinator = coordinator
        self._reservation = reservation or WorstCase()
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
        chunks = tuple(self._chunks())
        return Batch(chunks, tuple(r for r in self.with_status(Status.RUNNING) if r.wants_more))

    def finish(self, request: Request, outcome: Outcome) -> None:
        """End a request at whatever stage it is, and free what it holds."""
        if request.seat is not None:
            self.admitted.remove(request)
            self._vacate(request, keep=outcome is not Outcome.FAILED)
        elif request.status is Status.WAITING:
            self.waiting.remove(request)
        if outcome in (Outcome.STOP, Outcome.LENGTH):
            self._reservation.observe(len(request.output))
        request.status, request.outcome = Status.FINISHED, outcome

    def retract(self, request: Request) -> None:
        """Take an admitted request's slots; it waits at the head of the queue, keeps its tokens, and resumes later.

        Its rows stay cached as long as nobody needs their slots; what is left of them when it resumes is not computed
        again.
        """
        self.admitted.remove(request)
        self._vacate(request, keep=True)
        request.num_computed, request.status = 0, Status.WAITING
        request.num_retractions += 1
        self.num_retractions += 1
        self.waiting.appendleft(request)
        _log.warning(
            "pools are full: retracted request %d after %d new tokens; it will resume",
            request.id,
            len(request.output),
        )

    def share_prefix(self, request: Request) -> None:
        """Let others build on what an admitted request has computed so far."""
        self._coordinator.share(request.held_seat, request.tokens(request.held_seat.length))

    def _vacate(self, request: Request, *, keep: bool) -> None:
        seat, request.seat = request.held_seat, None
        self._coordinator.release(seat, request.tokens(seat.length if keep else 0))

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
            while (
                request.seat is not None
                and request.wants_more
                and request.seat.length >= request.seat.promised < request.max_tokens
            ):
                more = min(GROWTH_TOKENS, request.max_tokens - request.seat.promised)
                if not self._coordinator.extend(request.seat, more):
                    self.retract(self.admitted[-1])

    def _admit(self) -> None:
        while self.waiting and len(self.admitted) < self._max_running:
            request = self.waiting[0]
            if request.num_in_flight:  # retracted meanwhile: what it is to compute again is not known yet
                return
            room = (request.max_tokens, self._reservation.promise(request), request.reusable)
            if not self._coordinator.can_admit(*room):
                return
            self.waiting.popleft()
            request.seat = self._coordinator.admit(*room)
            request.status = Status.PREFILL
            self.admitted.append(request)
            self._note_reuse(request)

    def _chunks(self) -> Iterator[Chunk]:
        budget = self._chunk_size
        for request in self.with_status(Status.PREFILL):
            if budget == 0:
                return
            self._coordinator.catch_up(request.held_seat, request.reusable)
            self._note_reuse(request)
            count = min(budget, len(request.context) - request.num_computed)
            budget -= count
            if count:
                yield Chunk(request, count, request.num_computed + count == len(request.context))
            else:
                self._coordinator.skip_prefill(request.held_seat)
                request.status = Status.STAGING

    def _note_reuse(self, request: Request) -> None:
        """Take notice of rows that exist and that the request has not computed."""
        found = request.held_seat.length - request.num_computed
        request.num_computed += found
        if request.num_retractions == 0:  # its own rows are no hit
            request.num_cached_tokens += found
            self.num_prefix_hit_tokens += found
