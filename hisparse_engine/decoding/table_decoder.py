"""TableDecoder: decode steps over device tables, one CUDA graph a batch size, tokens one step late.

Nothing in a step waits for the device: its inputs are a few integers a request, sampling feeds the next step on the
device, and tokens and counts are read while that one runs. Without a CUDA device the same code runs uncaptured, on the
reference operations: that is how it is tested everywhere.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch

from hisparse_engine.decoding.buckets import PREFILL_BLOCK, bucket_sizes
from hisparse_engine.decoding.decoder import OnLogits
from hisparse_engine.decoding.graphs import StepRunner, make_runner
from hisparse_engine.decoding.output import StepOutput
from hisparse_engine.decoding.table_pass import Selector, TableDecodePass, TablePrefillPass
from hisparse_engine.decoding.table_rows import Batch, ResidentRows, Rows, TwoTierRows
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.tables import NONE, SWAP_IN_NANOSECONDS
from hisparse_engine.request import Request
from hisparse_engine.sampling import Logprobs, draw_where_asked, sample, to_host
from hisparse_engine.scheduler import Chunk
from hisparse_engine.table_coordinator import TableHiSparseCoordinator
from hisparse_engine.table_resident import TableResidentCoordinator
from hisparse_engine.table_seat import TableSeat


class TableDecoder:
    """Computes prompt chunks and decode steps for either mode."""

    late = True

    def __init__(
        self,
        model: DsaModel,
        coordinator: TableHiSparseCoordinator | TableResidentCoordinator,
        ops: Operations,
        *,
        max_running: int,
        clock: Callable[[], float] = time.perf_counter,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Allocate the step's buffers and, on a CUDA device, capture every batch size; ``progress(done, total)``."""
        self._model, self._coordinator, self._ops, self._clock = model, coordinator, ops, clock
        self._device, layout = model.device, coordinator.layout
        self.on_logits: OnLogits | None = None
        top_k = model.config.index_topk
        self._rows: Rows
        self._staged: torch.Tensor | None = None
        self._home = torch.empty((2, max_running), dtype=torch.int32, device=self._device)
        if isinstance(coordinator, TableHiSparseCoordinator):
            self._rows = TwoTierRows(coordinator, max_running, top_k)
            shape = (2, layout.num_layers * max_running, layout.row_dim)
            self._staged = torch.empty(shape, dtype=coordinator.device_pool.rows.dtype, device=self._device)
        else:
            self._rows = ResidentRows(coordinator)
        self._scores = torch.empty(
            (max(max_running, PREFILL_BLOCK), coordinator.max_length),
            dtype=torch.float32,
            device=self._device,
        )
        self._selector = self._make_selector(len(self._scores), top_k)
        self._last_tokens = torch.zeros(max_running + 1, dtype=torch.int64, device=self._device)
        self._backups: list[torch.cuda.Event | None] = [None, None]
        self._parity = 0
        self._runners: dict[tuple[int, int], StepRunner] = {}
        self._sizes = bucket_sizes(max_running)
        self._prepare(progress)

    def _make_selector(self, tokens_at_once: int, top_k: int) -> Selector:
        coordinator = self._coordinator
        return Selector(
            self._ops,
            coordinator.index_keys,
            coordinator.layout.group_of_layer,
            coordinator.requests.tokens,
            self._scores[:tokens_at_once],
            top_k,
        )

    def _prepare(self, progress: Callable[[int, int], None] | None) -> None:
        parities = (0, 1) if self._staged is not None else (0,)
        keys = [(size, parity) for size in reversed(self._sizes) for parity in parities]
        pool = None
        for done, (size, parity) in enumerate(keys):
            runner = make_runner(size, self._device, lambda inputs, p=parity: self._step(inputs, p), pool)  # type: ignore[misc]
            self._runners[size, parity], pool = runner, runner.pool
            if progress is not None:
                progress(done + 1, len(keys))

    # ---- decode ----------------------------------------------------------------------------------------------

    def decode(self, requests: Sequence[Request]) -> StepOutput:
        """Launch one step."""
        started, seats = self._clock(), [_seat(request) for request in requests]
        self._coordinator.begin_step(seats)
        self._parity ^= 1
        parity = self._parity if self._staged is not None else 0
        runner = self._runners[self._sizes[bisect_left(self._sizes, len(requests))], parity]
        if isinstance(self._coordinator, TableHiSparseCoordinator):
            self._coordinator.link.wait_for(self._backups[parity])
        step = runner.run(self._inputs(runner, requests, seats))
        tokens = draw_where_asked(step.logits, requests, step.tokens[: len(requests)])
        if any(request.params.temperature > 0 for request in requests):
            self._remember(seats, tokens)
        if self.on_logits is not None:
            self.on_logits(step.logits, requests)
        output = self._output(step.logits, tokens, requests, started, is_decode=True)
        if isinstance(self._coordinator, TableHiSparseCoordinator):
            staged = self._staged_for(parity, runner.size)
            assert staged is not None
            home = self._home[parity, : runner.size]
            self._backups[parity] = self._coordinator.end_step(seats, staged, home)
        return output

    def _inputs(
        self, runner: StepRunner, requests: Sequence[Request], seats: Sequence[TableSeat]
    ) -> torch.Tensor:
        """Fill int32 ``[3, batch]``: row, length, and the newest token or NONE where only the device knows it."""
        inputs = runner.host_inputs()
        inputs[0], inputs[1], inputs[2] = NONE, 0, NONE
        count = len(requests)
        inputs[0, :count] = torch.tensor([seat.row for seat in seats])
        inputs[1, :count] = torch.tensor([seat.length for seat in seats])
        inputs[2, :count] = torch.tensor(
            [NONE if request.num_in_flight else request.last_token for request in requests]
        )
        return inputs

    def _step(self, inputs: torch.Tensor, parity: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (logits, greedy tokens int64 ``[batch]``); the captured part of a step.

        What the backup reads beside the next step, the new rows and their home slots, is kept in memory of their own.
        """
        rows, lengths, given = inputs
        real = rows != NONE
        row = torch.where(real, rows, len(self._last_tokens) - 1).long()
        known = self._coordinator.requests.tokens
        starts = known.start[rows.clamp(min=0).long()]
        at = starts + (lengths - 1).clamp(min=0)
        home = self._home[parity, : len(rows)]
        home.copy_(torch.where(real, known.home[at], NONE))
        batch = Batch(
            rows,
            lengths,
            starts,
            torch.where(real, known.index_slots[at], NONE),
            home,
            self._staged_for(parity, len(rows)),
        )
        self._rows.begin()
        view = TableDecodePass(batch, self._rows, self._selector, self._ops, self._model.config)
        tokens = torch.where(given != NONE, given.long(), self._last_tokens[row])
        logits = self._model.logits(self._model.forward(tokens, view))
        greedy = logits.argmax(dim=-1)
        self._last_tokens.index_copy_(0, row, greedy)
        return logits, greedy

    def _staged_for(self, parity: int, size: int) -> torch.Tensor | None:
        """Return ``[layers, size, row_dim]``: where a step of this size leaves its new rows for their backup."""
        if self._staged is None:
            return None
        layers = self._coordinator.layout.num_layers
        return self._staged[parity, : layers * size].view(layers, size, -1)

    def _remember(self, seats: Sequence[TableSeat], tokens: torch.Tensor) -> None:
        rows = torch.tensor([seat.row for seat in seats])
        if self._device.type == "cuda":
            rows = rows.pin_memory().to(self._device, non_blocking=True)
        self._last_tokens.index_copy_(0, rows, tokens)

    # ---- prefill ---------------------------------------------------------------------------------------------

    def prefill(self, chunk: Chunk) -> StepOutput | None:
        """Launch a chunk."""
        request, started = chunk.request, self._clock()
        seat = _seat(request)
        tokens = request.context[request.num_computed : request.num_computed + chunk.num_tokens]
        self._coordinator.begin_chunk(seat, len(tokens))
        view = TablePrefillPass(
            seat,
            len(tokens),
            self._coordinator.requests.tokens,
            self._rows,
            self._selector,
            self._ops,
            self._model.config,
            last=chunk.last,
        )
        hidden = self._model.forward(self._on_device(tokens), view)
        if not chunk.last or request.output:
            return None
        logits = self._model.logits(hidden[-1:])
        if self.on_logits is not None:
            self.on_logits(logits, [request])
        first = sample(logits, [request])
        self._remember([seat], first)
        return self._output(logits, first, [request], started, is_decode=False)

    def _output(
        self,
        logits: torch.Tensor,
        tokens: torch.Tensor,
        requests: Sequence[Request],
        started: float,
        *,
        is_decode: bool,
    ) -> StepOutput:
        logprobs = Logprobs(logits, requests, tokens)
        rows, coordinator = self._rows, self._coordinator
        if not isinstance(rows, TwoTierRows) or not isinstance(coordinator, TableHiSparseCoordinator):
            return StepOutput(requests, tokens, logprobs, started=started, is_decode=is_decode)
        timer, counts = rows.timer, to_host(coordinator.hot.tables.counts)
        return StepOutput(
            requests,
            tokens,
            logprobs,
            started=started,
            is_decode=is_decode,
            swap_in_seconds=(lambda: timer.seconds(int(counts[SWAP_IN_NANOSECONDS]))) if is_decode else None,
            on_arrival=lambda: coordinator.note_counts(counts.tolist()),
        )

    def _on_device(self, tokens: Sequence[int]) -> torch.Tensor:
        values = torch.tensor(tokens, dtype=torch.int64)
        if self._device.type == "cuda":
            values = values.pin_memory().to(self._device, non_blocking=True)
        return values


def _seat(request: Request) -> TableSeat:
    seat = request.held_seat
    assert isinstance(seat, TableSeat), "a seat of another coordinator"
    return seat
