"""The engine: one step is one screen. Composes scheduler, coordinator and model; tells observers what happened."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from hisparse_engine.config import EngineConfig
from hisparse_engine.coordinator import HiSparseCoordinator
from hisparse_engine.errors import CapacityError, InvariantError
from hisparse_engine.kv import KVCoordinator, KVLayout, PoolSizes
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.passes import DecodePass, PrefillPass
from hisparse_engine.request import Outcome, Request, RequestError, SamplingParams, Status
from hisparse_engine.reservation import make_reservation
from hisparse_engine.resident import ResidentCoordinator
from hisparse_engine.sampling import append_logprobs, sample
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
    ) -> None:
        """Allocate the pools. ``observers`` get every step's ``StepStats``; ``clock`` gives monotonic seconds."""
        self.config = config
        self.model = model
        self.sizes = config.hisparse.resolve(
            mode=config.mode, top_k=model.config.index_topk, max_running_requests=config.max_running_requests
        )
        self.layout = KVLayout.from_indexer_types(
            model.config.kv_row_dim, model.config.index_head_dim, model.config.indexer_types
        )
        self.coordinator = make_coordinator(config, self.layout, self.sizes, model.device)
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
        self._finished: list[Request] = []

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
        batch = self.scheduler.schedule()
        for chunk in batch.prefill:
            self._prefill(chunk)
        if batch.decode:
            self._decode(batch.decode)
        self.peak = _elementwise_max(self.peak, self.coordinator.get_token_stats())
        self._finish_ended()
        self._num_steps += 1

    def _prefill(self, chunk: Chunk) -> None:
        request, seat, last = chunk.request, chunk.request.held_seat, chunk.last
        tokens = request.context[request.num_computed : request.num_computed + chunk.num_tokens]
        self.coordinator.begin_chunk(seat, len(tokens))
        config, device, length = self.model.config, self.model.device, len(request.prompt)
        view = PrefillPass(
            self.coordinator, seat, len(tokens), length, config, self.layout, device, last=last
        )
        hidden = self.model.forward(self._tensor(tokens), view)
        request.num_computed += len(tokens)
        self.scheduler.share_prefix(request)
        if request.num_retractions == 0:  # what a resumed request computes again is counted once
            self.totals.prompt_tokens += len(tokens)
        if last:
            request.status = Status.STAGING
            if not request.output:
                self._append_tokens(self.model.logits(hidden[-1:]), [request])

    def _decode(self, requests: Sequence[Request]) -> None:
        started = self._clock()
        seats = [request.held_seat for request in requests]
        self.coordinator.begin_step(seats)
        view = DecodePass(self.coordinator, seats, self.model.config, self.layout, self.model.device)
        hidden = self.model.forward(self._tensor([request.last_token for request in requests]), view)
        self.coordinator.end_step()
        self._append_tokens(self.model.logits(hidden), requests)
        self.totals.decode_steps += 1
        self._durations.append(Duration("decode_step_seconds", self._clock() - started))
        if self.config.mode == "hierarchical":
            self._durations.append(Duration("swap_in_seconds", self.coordinator.counters.step_seconds))

    def _append_tokens(self, logits: torch.Tensor, requests: Sequence[Request]) -> None:
        tokens = sample(logits, requests)
        append_logprobs(logits, requests, tokens)
        self._time_tokens(requests)
        self.totals.generation_tokens += len(tokens)
        for request, token in zip(requests, tokens, strict=True):
            request.output.append(token)
            outcome = self._outcome(request, token)
            if outcome is not None:
                self._ended.append((request, outcome))

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
        return self.scheduler.has_work

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
        self.totals.invariant_violations += 1
        for request in expelled:
            self._note_end(request, Outcome.FAILED)
        _log.critical(
            "invariant violated: %s; %d admitted requests failed and the pools were cleared; please report this",
            error,
            len(expelled),
        )

    def _tensor(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.tensor(tokens, dtype=torch.int64, device=self.model.device)


def make_coordinator(
    config: EngineConfig, layout: KVLayout, sizes: PoolSizes, device: torch.device
) -> KVCoordinator:
    """Return the KV cache of the configured mode, its pools allocated."""
    dtype = torch.float32 if config.dtype == "float32" else torch.bfloat16
    if config.mode == "resident":
        return ResidentCoordinator(
            layout, sizes, dtype=dtype, device=device, prefix_reuse=config.prefix_reuse
        )
    return HiSparseCoordinator(
        layout,
        sizes,
        dtype=dtype,
        device=device,
        verify_every=config.verify_every,
        prefix_reuse=config.prefix_reuse,
    )


def _elementwise_max(a: HiSparseTokenStats, b: HiSparseTokenStats) -> HiSparseTokenStats:
    return HiSparseTokenStats(
        max(a.device_tokens, b.device_tokens),
        max(a.device_token_usage, b.device_token_usage),
        max(a.host_tokens, b.host_tokens),
        max(a.host_token_usage, b.host_token_usage),
    )
