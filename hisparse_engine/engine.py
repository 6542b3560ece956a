"""The engine: one step is one screen. Composes scheduler, coordinator and model; tells observers what happened."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import torch

from hisparse_engine.config import EngineConfig
from hisparse_engine.decoding.backend import MakeBackend, choose_backend
from hisparse_engine.decoding.output import StepOutput
from hisparse_engine.errors import CapacityError, InvariantError
from hisparse_engine.kv import KVLayout
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.request import Outcome, Request, RequestError, SamplingParams, Status, TokenLogprobs
from hisparse_engine.reservation import make_reservation
from hisparse_engine.scheduler import Chunk, Scheduler
from hisparse_engine.totals import EngineTotals
from hisparse_metrics.stats import Duration, HiSparseTokenStats, Levels, StepStats

_log = logging.getLogger(__name__)

Observer = Callable[[StepStats], None]


class Engine:
    """Decodes many requests at once over a two-tier (or, in resident mode, one-tier) KV cache.

    For one thread: ``add_request`` and ``abort`` between calls of ``step``.
    """

    def __init__(
        self,
        model: DsaModel,
        config: EngineConfig,
        *,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.perf_counter,
        backend: MakeBackend | None = None,
    ) -> None:
        """Allocate the pools. ``observers`` get every step's ``StepStats``; ``clock`` gives monotonic seconds.

        ``backend`` makes the KV cache and the decoder; default: the fastest that the device and the configuration allow.
        """
        self.config = config
        self.model = model
        self.sizes = config.hisparse.resolve(
            mode=config.mode, top_k=model.config.index_topk, max_running_requests=config.max_running_requests
        )
        self.layout = KVLayout.of_model(model.config, config.kv_cache_dtype)
        make = backend or choose_backend
        self.coordinator, self.decoder = make(model, config, self.layout, self.sizes, clock)
        self.scheduler = Scheduler(
            self.coordinator,
            max_running=config.max_running_requests,
            prefill_chunk_size=config.prefill_chunk_size,
            reservation=make_reservation(config.reserve, config.reserve_quantile),
        )
        self.totals = EngineTotals()
        self._observers = tuple(observers)
        self._clock = clock
        self._ids = itertools.count()
        self._num_steps = 0
        self.peak = HiSparseTokenStats(0, 0.0, 0, 0.0)
        """The highest use of both tiers so far, seen before a step frees what it finished."""
        self._durations: list[Duration] = []
        self._ended: list[tuple[Request, Outcome]] = []
        self._ending: set[Request] = set()
        self._finished: list[Request] = []
        self._open: deque[StepOutput] = deque()  # launched, not read yet
        self._last_arrival = float("-inf")

    # ---- the step --------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """Advance every request that can advance; return those that ended since the last call.

        A broken invariant ends the requests that hold slots, never the engine.
        """
        try:
            self._advance()
            self._audit_when_due()
        except InvariantError as error:
            self._quarantine(error)
        self.publish()
        return self._take_finished()

    def _advance(self) -> None:
        batch, due = self.scheduler.schedule(), len(self._open)
        for chunk in batch.prefill:
            self._prefill(chunk)
        if batch.decode:
            self._launched(self.decoder.decode(batch.decode))
        self._collect(due if self.decoder.late else len(self._open))
        self.peak = _elementwise_max(self.peak, self.coordinator.get_token_stats())
        self._finish_ended()
        self._num_steps += 1

    def _prefill(self, chunk: Chunk) -> None:
        request = chunk.request
        output = self.decoder.prefill(chunk)
        request.num_computed += chunk.num_tokens
        self.scheduler.share_prefix(request)
        if request.num_retractions == 0:  # what a resumed request computes again is counted once
            self.totals.prompt_tokens += chunk.num_tokens
        if chunk.last:
            request.status = Status.STAGING
        if output is not None:
            self._launched(output)

    def _launched(self, output: StepOutput) -> None:
        self._open.append(output)
        if not self.decoder.late:
            self._collect(1)

    def _collect(self, count: int) -> None:
        """Take in the tokens of the ``count`` oldest launches; what came for a request that has ended is dropped."""
        for _ in range(count):
            output = self._open.popleft()
            tokens = output.tokens()
            if output.is_decode:
                self._note_step(output)
            alive = [
                (row, request)
                for row, request in enumerate(output.requests)
                if request.status is not Status.FINISHED and request not in self._ending
            ]
            self._time_tokens([request for _, request in alive])
            for row, request in alive:
                self._append(request, tokens[row], output.logprobs.of(row))

    def _note_step(self, output: StepOutput) -> None:
        now = self._clock()
        self.totals.decode_steps += 1
        # Launches overlap: a step's time counts from the arrival of the one before.
        self._durations.append(Duration("decode_step_seconds", now - max(output.started, self._last_arrival)))
        if output.swap_in_seconds is not None:
            self._durations.append(Duration("swap_in_seconds", output.swap_in_seconds()))
        self._last_arrival = now

    def _append(self, request: Request, token: int, logprobs: TokenLogprobs | None) -> None:
        request.output.append(token)
        if logprobs is not None:
            request.logprobs.append(logprobs)
        self.totals.generation_tokens += 1
        outcome = self._outcome(request, token)
        if outcome is not None:
            self._ended.append((request, outcome))
            self._ending.add(request)

    def _outcome(self, request: Request, token: int) -> Outcome | None:
        if not request.params.ignore_eos and token in self.model.config.eos_token_ids:
            return Outcome.STOP
        return Outcome.LENGTH if len(request.output) >= request.params.max_new_tokens else None

    # ---- requests --------------------------------------------------------------------------------------------

    def add_request(self, prompt: Sequence[int], params: SamplingParams | None = None) -> Request:
        """Queue a prompt of token ids.

        Raises :class:`RequestError` for ids outside the vocabulary or a sequence that the model cannot hold, and
        :class:`CapacityError` when the pools could not hold it even alone; both count as rejected.
        """
        request = Request(next(self._ids), tuple(prompt), params or SamplingParams(), self._clock())
        try:
            self._check(request)
        except (RequestError, CapacityError):
            self.totals.outcomes[Outcome.REJECTED] += 1
            raise
        self.scheduler.add(request)
        return request

    def abort(self, request: Request) -> None:
        """End a request now, because nobody waits for it any more; a finished one is left alone."""
        self.end(request, Outcome.ABORTED)

    def end(self, request: Request, outcome: Outcome) -> None:
        """End a request now, at whatever stage it is, for the reason ``outcome``; a finished one is left alone."""
        if request.status is not Status.FINISHED:
            try:
                self._finish(request, outcome)
            except InvariantError as error:
                self._quarantine(error)

    @property
    def has_work(self) -> bool:
        """Whether ``step`` has anything to do."""
        return self.scheduler.has_work or bool(self._open)

    def run(self) -> list[Request]:
        """Step until every request has ended; return them in the order in which they ended."""
        ended = []
        while self.has_work:
            ended += self.step()
        return ended

    def _check(self, request: Request) -> None:
        config, prompt = self.model.config, request.prompt
        if not prompt:
            raise RequestError("prompt: is empty; give at least one token")
        bad = next((token for token in prompt if not 0 <= token < config.vocab_size), None)
        if bad is not None:
            raise RequestError(f"prompt: token id {bad} is outside the vocabulary of {config.vocab_size}")
        length = len(prompt) + request.params.max_new_tokens
        if length > config.max_position_embeddings:
            raise RequestError(
                f"prompt: {len(prompt)} tokens and max_new_tokens {request.params.max_new_tokens} make {length}, more "
                f"than the model's {config.max_position_embeddings} positions; shorten either"
            )
        need = self.coordinator.shortfall(request.max_tokens)
        if need is not None:
            raise CapacityError(
                f"the request (prompt {len(prompt)} + {request.params.max_new_tokens} new tokens) needs {need.needed} "
                f"slots of the {need.resource}, which has {need.capacity} in all; {need.remedy}, or shorten it"
            )

    def _finish(self, request: Request, outcome: Outcome) -> None:
        try:
            self.scheduler.finish(request, outcome)
        except InvariantError:
            request.seat, request.status, request.outcome = None, Status.FINISHED, Outcome.FAILED
            self._note_end(request, Outcome.FAILED)
            raise
        self._note_end(request, outcome)

    def _note_end(self, request: Request, outcome: Outcome) -> None:
        self.totals.outcomes[outcome] += 1
        self._durations.append(Duration("request_duration_seconds", self._clock() - request.arrived))
        self._finished.append(request)

    def _finish_ended(self) -> None:
        for request, outcome in self._ended:
            self._finish(request, outcome)
        self._ended.clear()
        self._ending.clear()

    def _take_finished(self) -> list[Request]:
        finished, self._finished = self._finished, []
        return finished

    # ---- what observers see ----------------------------------------------------------------------------------

    def levels(self) -> Levels:
        """Return what is true now: plain counts of the allocators and queues."""
        tokens, index = self.coordinator.get_token_stats(), self.coordinator.index_keys.pool
        hierarchical = self.config.mode == "hierarchical"
        return Levels(
            device_tokens=tokens.device_tokens,
            device_token_capacity=self.sizes.device_tokens,
            device_tokens_spare=self.coordinator.device_tokens_spare,
            host_tokens=tokens.host_tokens,
            host_token_capacity=self.sizes.host_tokens if hierarchical else 0,
            host_tokens_reserved=self.coordinator.host_tokens_reserved,
            host_tokens_cached=self.coordinator.host_tokens_cached,
            index_tokens=index.num_used,
            index_token_capacity=index.capacity,
            running_requests=len(self.scheduler.with_status(Status.RUNNING)),
            waiting_requests=len(self.scheduler.waiting),
            staging_requests=len(self.scheduler.with_status(Status.PREFILL, Status.STAGING)),
        )

    def publish(self) -> None:
        """Tell the observers what is true now; every step does. Before the first one it makes the capacities known."""
        stats = StepStats(
            timestamp=time.time(),
            is_hisparse=self.config.mode == "hierarchical",
            levels=self.levels(),
            totals=self.totals.snapshot(self.coordinator.counters, self.scheduler),
            durations=tuple(self._durations),
        )
        self._durations.clear()
        for observe in self._observers:
            observe(stats)

    def _time_tokens(self, requests: Sequence[Request]) -> None:
        now = self._clock()
        gaps: Counter[float] = Counter()
        for request in requests:
            if request.last_token_time is None:
                self._durations.append(Duration("time_to_first_token_seconds", now - request.arrived))
            else:
                gaps[now - request.last_token_time] += 1
            request.last_token_time = now
        self._durations.extend(Duration("inter_token_latency_seconds", gap, n) for gap, n in gaps.items())

    def _audit_when_due(self) -> None:
        every = self.config.audit_every
        if every and (self._num_steps % every == 0 or not self.has_work):
            self.coordinator.audit([request.held_seat for request in self.scheduler.admitted])

    def _quarantine(self, error: InvariantError) -> None:
        """Go on with clean pools: whoever held a seat may have read another's rows, and fails."""
        expelled = self.scheduler.expel_all()
        self._ended.clear()  # they are among the expelled
        self._ending.clear()
        self.totals.invariant_violations += 1
        for request in expelled:
            self._note_end(request, Outcome.FAILED)
        _log.critical(
            "invariant violated: %s; %d admitted requests failed and the pools were cleared; please report this",
            error,
            len(expelled),
        )


def _elementwise_max(a: HiSparseTokenStats, b: HiSparseTokenStats) -> HiSparseTokenStats:
    return HiSparseTokenStats(
        max(a.device_tokens, b.device_tokens),
        max(a.device_token_usage, b.device_token_usage),
        max(a.host_tokens, b.host_tokens),
        max(a.host_token_usage, b.host_token_usage),
    )
