"""An engine whose requests have their context without a prefill: what `decode.py` and `observability.py` measure.

The engine is the real one, scheduler, graphs and all. Only two seams are used: a backend whose decoder skips prompts,
and operations whose selection may be the locality model's. Rows and index keys are random bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

import torch

from benchmarks.decode_ablation import SWAP_IN, Without
from benchmarks.decode_locality import Locality
from benchmarks.decode_measure import Counts
from benchmarks.decode_pinned import HostMemory
from benchmarks.decode_scenario import Mode, Pools
from benchmarks.decode_selection import SelectedByLocality, live_through
from hisparse_engine.config import EngineConfig, HiSparseConfig
from hisparse_engine.decoding import table_decoder
from hisparse_engine.decoding.backend import Backend, table_backend
from hisparse_engine.decoding.decoder import OnLogits
from hisparse_engine.decoding.output import StepOutput
from hisparse_engine.decoding.table_decoder import TableDecoder
from hisparse_engine.engine import Engine, Observer
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.tables import LOOKUPS, MISSES
from hisparse_engine.request import Request, SamplingParams
from hisparse_engine.sampling import Logprobs
from hisparse_engine.scheduler import Chunk
from hisparse_engine.table_coordinator import TableHiSparseCoordinator
from hisparse_engine.table_resident import TableResidentCoordinator

SETTLING_STEPS = 24
"""Steps in which a lone request's hot buffer can grow to its whole sequence."""
HISTORY_STEPS = 512
"""Steps of the past that hot buffers have seen when a measurement begins."""
_TOKEN_STRIDE = 7919
"""Requests begin with different tokens: the same ones would go through the same few experts."""


@dataclass(frozen=True)
class Setting:
    """Everything about an engine but the model. ``locality`` None: the model's own indexer selects."""

    mode: Mode
    context: int
    new_tokens: int
    pools: Pools
    locality: Locality | None = None
    batch_sizes: tuple[int, ...] = ()
    """Those that will run; others get no graph. None given: the engine's own choice."""
    float8_keys: bool = False
    """Whether index keys are stored in float8."""
    gone: frozenset[str] = frozenset()
    """Parts of a step that are left out: see ``decode_ablation``."""


class WithoutPrefill:
    """A decoder for which a prompt's rows exist as soon as they have slots."""

    def __init__(
        self, inner: TableDecoder, coordinator: Any, model: DsaModel, clock: Callable[[], float]
    ) -> None:
        self._inner, self._coordinator, self._model, self._clock = inner, coordinator, model, clock
        self.late = inner.late
        self.on_logits: OnLogits | None = None

    def prefill(self, chunk: Chunk) -> StepOutput | None:
        """Give the rows slots, seat the prompt's tail, and make up a first token."""
        request, seat = chunk.request, chunk.request.held_seat
        self._coordinator.begin_chunk(seat, chunk.num_tokens)
        if not chunk.last:
            return None
        if isinstance(self._coordinator, TableHiSparseCoordinator):
            self._coordinator.make_room_for_prompt(seat)
            self._coordinator.seat_prompt(seat, None)
        first = (1 + _TOKEN_STRIDE * request.id) % self._model.config.vocab_size
        token = torch.full((1,), first, dtype=torch.int64, device=self._model.device)
        self._inner._remember([seat], token)  # type: ignore[list-item]
        logits = torch.empty((1, 1), device=self._model.device)
        return StepOutput(
            [request], token, Logprobs(logits, [request], token), started=self._clock(), is_decode=False
        )

    def decode(self, requests: Sequence[Request]) -> StepOutput:
        """Do a real step."""
        return self._inner.decode(requests)


class BenchEngine:
    """Requests are added in groups and never end; ``step`` is the engine's own."""

    def __init__(
        self,
        model: DsaModel,
        setting: Setting,
        ops: Operations,
        host: HostMemory | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Allocate pools and tables, and capture every batch size where there is a CUDA device."""
        whole, self._setting = setting.context + setting.new_tokens, setting
        self._model = model
        model.config = model.config.model_copy(update={"max_position_embeddings": whole})
        ops = cast(Operations, Without(ops, setting.gone)) if setting.gone else ops
        self._locality = (
            SelectedByLocality(ops, setting.locality, setting.context) if setting.locality else None
        )
        self._ops: Any = self._locality or ops
        with host.lent() if host is not None else nullcontext():
            self.engine = Engine(model, self._config(), observers=observers, backend=self._backend)
        self.coordinator: Any = self.engine.coordinator
        self._fill()

    def _config(self) -> EngineConfig:
        setting, sizes = self._setting, self._setting.pools.sizes
        tiers = HiSparseConfig.parse(
            device_buffer_size=sizes.device_buffer_size,
            device_tokens=sizes.device_tokens,
            host_tokens=sizes.host_tokens or None,
            index_tokens=sizes.index_tokens,
        )
        device = self._model.device.type
        return EngineConfig.parse(
            mode=setting.mode,
            device=device,
            dtype="bfloat16" if device == "cuda" else "float32",
            max_running_requests=setting.pools.requests,
            prefill_chunk_size=setting.pools.requests * setting.context,
            prefix_reuse=False,
            audit_every=0,
            index_key_dtype="float8" if setting.float8_keys else "model",
            hisparse=tiers,
        )

    def _backend(self, model: DsaModel, config: Any, layout: Any, sizes: Any, clock: Any) -> Backend:
        wanted = sorted({*self._setting.batch_sizes, config.max_running_requests})
        sizes_of = (lambda _: wanted) if self._setting.batch_sizes else table_decoder.bucket_sizes
        with mock.patch.object(table_decoder, "bucket_sizes", sizes_of):
            made = table_backend(model, config, layout, sizes, clock, self._ops)
        assert isinstance(made.decoder, TableDecoder)
        return Backend(made.coordinator, WithoutPrefill(made.decoder, made.coordinator, model, clock))

    def _fill(self) -> None:
        """Random rows and index keys: zeros would tie, and what is never written is never touched."""
        keys = self.coordinator.index_keys
        for of_layer in (*keys.pool.rows, *self.coordinator.device_pool.rows):
            if of_layer.dtype == torch.float8_e4m3fn:
                of_layer.copy_(torch.randn(of_layer.shape, dtype=torch.bfloat16, device=of_layer.device))
            else:
                of_layer.normal_()
        if keys.scales is not None:
            keys.scales.fill_(1.0)

    # ---- what is measured ------------------------------------------------------------------------------------

    def admit(self, concurrency: int) -> None:
        """Add requests until ``concurrency`` run, and bring their hot buffers to where long use would have."""
        prompt = (1,) * self._setting.context
        params = SamplingParams(max_new_tokens=self._setting.new_tokens, ignore_eos=True)
        missing = concurrency - len(self.engine.scheduler.admitted)
        for _ in range(missing):
            self.engine.add_request(prompt, params)
        self.engine.step()
        if len(self.engine.scheduler.admitted) != concurrency:
            raise RuntimeError(
                f"{concurrency} requests were to run, {len(self.engine.scheduler.admitted)} do"
            )
        for _ in range(SETTLING_STEPS):
            self.engine.step()
        self.synchronize()
        hierarchical = self._setting.mode == "hierarchical"
        if self._locality is not None and hierarchical and SWAP_IN not in self._setting.gone:
            seats = [request.held_seat for request in self.engine.scheduler.admitted]
            live_through(self.coordinator, self._locality, seats, HISTORY_STEPS)

    def step(self) -> int:
        """Do one step; return how many tokens arrived."""
        before = self.engine.totals.generation_tokens
        self.engine.step()
        return self.engine.totals.generation_tokens - before

    def synchronize(self) -> None:
        """Wait for the device."""
        if self._model.device.type == "cuda":
            torch.cuda.synchronize()

    def counts(self) -> Counts:
        """Return what the device has counted."""
        if self._setting.mode == "resident":
            return Counts()
        counts = self.coordinator.hot.tables.counts.tolist()
        return Counts(counts[LOOKUPS], counts[MISSES], counts[MISSES] * self.coordinator.host_pool.row_bytes)

    @property
    def device_bytes(self) -> int:
        """Bytes that the coordinator holds on the device: rows, index keys, tables, scratch for a prompt."""
        return allocated_bytes(self.coordinator)

    @property
    def hot_slots(self) -> int:
        """The device slots of the largest hot buffer; in resident mode of the longest sequence."""
        return max(request.held_seat.device.size for request in self.engine.scheduler.admitted)


def allocated_bytes(coordinator: TableHiSparseCoordinator | TableResidentCoordinator) -> int:
    """Return the device bytes of a coordinator's tensors, workspace of a few kilobytes aside."""
    tables = [*vars(coordinator.requests.tokens).values()]
    if isinstance(coordinator, TableHiSparseCoordinator):
        tables += [*vars(coordinator.hot.tables).values(), coordinator.scratch]
    keys = coordinator.index_keys
    tables += [keys.scales] if keys.scales is not None else []
    tensors = [coordinator.device_pool.rows, keys.pool.rows, *tables]
    return sum(tensor.nbytes for tensor in tensors)
