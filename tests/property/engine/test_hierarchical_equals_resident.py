"""Two tiers or one: under any schedule, every logit of every token is the same bit for bit.

Both engines step side by side. What they batch depends on admission, and admission on the pools, so the resident
engine repeats the two-tier engine's admissions; everything else it does by itself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hisparse_engine.decoding.backend import MakeBackend, eager_backend
from hisparse_engine.memory.prefix_tree import Tokens
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.request import Request, SamplingParams, Status
from hisparse_engine.table_coordinator import TableHiSparseCoordinator
from tests.support.models import BACKENDS, RecordingEngine, engine_config, random_prompt, tiny_model

TOP_K = 4
MAX_PROMPT, MAX_NEW = 40, 12
SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "index_topk": TOP_K, "index_n_heads": 4}
MODELS: dict[str, dict[str, Any]] = {
    "all full, rows of an odd size": {
        **SMALL,
        "architecture": "DeepseekV32ForCausalLM",
        "num_hidden_layers": 2,
        "kv_lora_rank": 21,
        "qk_rope_head_dim": 6,
    },
    "shared in between": {
        **SMALL,
        "num_hidden_layers": 4,
        "indexer_types": ["full", "shared", "shared", "full"],
        "n_group": 2,
    },
    "latents of two groups of a scale": {
        **SMALL,
        "num_hidden_layers": 3,
        "indexer_types": ["full", "shared", "full"],
        "kv_lora_rank": 256,
        "qk_rope_head_dim": 6,
    },
}
FLOAT8 = "latents of two groups of a scale"
"""The model whose rows can be stored in float8."""


@cache
def model_of(name: str, dtype: torch.dtype) -> DsaModel:
    return tiny_model(dtype=dtype, **MODELS[name])


@dataclass(frozen=True)
class Add:
    prompt_length: int
    seed: int
    params: SamplingParams


@dataclass(frozen=True)
class Abort:
    which: int


@dataclass(frozen=True)
class Step:
    pass


params = st.builds(
    SamplingParams,
    max_new_tokens=st.integers(1, MAX_NEW),
    temperature=st.sampled_from([0.0, 0.0, 0.8]),
    top_p=st.sampled_from([1.0, 0.7]),
    seed=st.integers(0, 3),
    ignore_eos=st.booleans(),
)
adds = st.builds(
    Add, st.integers(1, MAX_PROMPT) | st.integers(TOP_K, MAX_PROMPT), st.integers(0, 10_000), params
)
steps = st.lists(st.just(Step()), max_size=8)
arrivals = st.builds(lambda add, then: [add, *then], adds, steps)
departures = st.builds(lambda which, then: [Abort(which), *then], st.integers(0, 9), steps)
schedules = st.lists(arrivals | arrivals | departures, min_size=2, max_size=10).map(
    lambda parts: list(chain.from_iterable(parts))
)


@st.composite
def pools(draw: st.DrawFn) -> dict[str, int]:
    """Anything from barely enough for one request to enough for all."""
    buffer = draw(st.integers(TOP_K, 4 * TOP_K) | st.just(MAX_PROMPT + MAX_NEW))
    return {
        "device_buffer_size": buffer,
        "device_tokens": draw(st.integers(1, 5)) * (buffer + 1) + draw(st.integers(0, 3)),
        "host_tokens": draw(st.integers(MAX_PROMPT + MAX_NEW, 300)),
    }


class SideBySide:
    """Two engines that get the same requests at the same steps."""

    def __init__(
        self,
        model: DsaModel,
        hierarchical_pools: dict[str, int],
        backend: MakeBackend = eager_backend,
        **fields: Any,
    ) -> None:
        host = hierarchical_pools["host_tokens"]
        resident_pools = {"device_tokens": host, "index_tokens": host}
        self.hierarchical = RecordingEngine(
            model, engine_config(hisparse=hierarchical_pools, verify_every=1, **fields), backend=backend
        )
        self.resident = RecordingEngine(
            model, engine_config(mode="resident", hisparse=resident_pools, **fields), backend=backend
        )
        self.requests: list[tuple[Request, Request]] = []
        self._repeat_admissions()

    def _repeat_admissions(self) -> None:
        self._answers: deque[bool] = deque()
        decide = self.hierarchical.coordinator.can_admit

        def decide_and_note(max_tokens: int, promised: int | None, tokens: Tokens) -> bool:
            self._answers.append(decide(max_tokens, promised, tokens))
            return self._answers[-1]

        self.hierarchical.coordinator.can_admit = decide_and_note  # type: ignore[method-assign]
        self.resident.coordinator.can_admit = lambda *_: self._answers.popleft()  # type: ignore[method-assign]

    @property
    def engines(self) -> tuple[RecordingEngine, RecordingEngine]:
        return self.hierarchical, self.resident

    def do(self, action: Add | Abort | Step) -> None:
        if isinstance(action, Add):
            prompt = random_prompt(action.prompt_length, action.seed)
            one, other = (engine.add_request(prompt, action.params) for engine in self.engines)
            self.requests.append((one, other))
        elif isinstance(action, Abort):
            for engine, request in zip(self.engines, self._pick(action.which), strict=False):
                engine.abort(request)
        else:
            self.step()

    def _pick(self, which: int) -> tuple[Request, ...]:
        return self.requests[which % len(self.requests)] if self.requests else ()

    def step(self) -> None:
        for engine in self.engines:
            engine.step()
        assert not self._answers
        if isinstance(self.hierarchical.coordinator, TableHiSparseCoordinator):
            admitted = self.hierarchical.scheduler.admitted
            self.hierarchical.coordinator.audit_residency([request.held_seat for request in admitted])
        for one, other in self.requests:
            assert (one.status, one.outcome, one.output) == (other.status, other.outcome, other.output)
            if one.output:
                here, there = self.hierarchical.logits_of(one), self.resident.logits_of(other)
                assert torch.equal(here.view(torch.uint8), there.view(torch.uint8))

    def finish(self) -> None:
        while self.hierarchical.has_work:
            self.step()
        for one, other in self.requests:
            assert one.status is other.status is Status.FINISHED
        for engine in self.engines:
            assert engine.coordinator.get_token_stats() == (0, 0.0, 0, 0.0)
        assert self.hierarchical.coordinator.counters.verify_mismatches == 0


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(BACKENDS)),
    st.sampled_from([*((name, "auto") for name in MODELS), *2 * [(FLOAT8, "float8")]]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    pools(),
    schedules,
    st.sampled_from([1, 7, 16, 512]),
    st.sampled_from([1, 3, 64]),
)
def test_every_logit_is_equal_bit_for_bit(
    backend: str,
    rows: tuple[str, str],
    dtype: torch.dtype,
    sizes: dict[str, int],
    schedule: list[Add | Abort | Step],
    chunk: int,
    max_running: int,
) -> None:
    name, kv_cache_dtype = rows
    both = SideBySide(
        model_of(name, dtype),
        sizes,
        BACKENDS[backend],
        prefill_chunk_size=chunk,
        max_running_requests=max_running,
        dtype=str(dtype).removeprefix("torch."),
        kv_cache_dtype=kv_cache_dtype,
    )
    for action in schedule:
        both.do(action)
    both.finish()
    if both.hierarchical.coordinator.counters.misses:
        event("rows were swapped in")
    if both.hierarchical.coordinator.counters.evictions:
        event("rows were evicted")
