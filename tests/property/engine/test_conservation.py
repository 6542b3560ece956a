"""Nothing is lost and nothing is owned twice, whatever requests do and wherever they stop.

A state machine drives the coordinator through admissions, chunks, decode steps and releases in any order, beside a
plain model of what must be true: which row was written for which position, and how long ago each hot row was used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hisparse_engine.coordinator import HiSparseCoordinator
from hisparse_engine.kv import KVLayout, PoolSizes, Seat
from hisparse_engine.memory.residency import NONE
from hisparse_engine.ops.select import MASKED
from hisparse_engine.request import Outcome, Request, SamplingParams, Status
from hisparse_engine.verify import compare_rows
from tests.support.models import RecordingEngine, engine_config, random_prompt, tiny_model

LAYOUT = KVLayout.from_indexer_types(3, 2, ["full", "shared", "full", "full", "shared"])
ROW_BYTES = LAYOUT.row_dim * 4
seeds = st.integers(0, 2**32 - 1)
whiches = st.integers(0, 5)


@dataclass(eq=False)
class Held:
    """One request: its seat, what was written (``rows[layer][position]``), and when each hot row was used last."""

    seat: Seat
    prompt_length: int
    max_tokens: int
    rows: list[torch.Tensor] = field(
        default_factory=lambda: [torch.empty(0, LAYOUT.row_dim) for _ in range(LAYOUT.num_layers)]
    )
    last_use: list[dict[int, int]] = field(default_factory=lambda: [{} for _ in range(LAYOUT.num_groups)])

    @property
    def is_prefilled(self) -> bool:
        return self.seat.length >= self.prompt_length

    @property
    def can_grow(self) -> bool:
        return self.is_prefilled and self.seat.length < self.max_tokens

    def append(self, layer: int, rows: torch.Tensor) -> None:
        self.rows[layer] = torch.cat([self.rows[layer], rows])


class CoordinatorMachine(RuleBasedStateMachine):
    """Any order of what an engine may do to a coordinator."""

    @initialize(
        buffer=st.integers(2, 8),
        device=st.integers(9, 50),
        host=st.integers(20, 90),
        index=st.integers(20, 90),
        verify_every=st.integers(0, 2),
    )
    def allocate_pools(self, buffer: int, device: int, host: int, index: int, verify_every: int) -> None:
        self.sizes = PoolSizes(device, host, index, buffer)
        self.coordinator = HiSparseCoordinator(LAYOUT, self.sizes, verify_every=verify_every)
        self.held: list[Held] = []
        self.clock = 0
        self.lookups = self.misses = self.evictions = self.rows_home = 0

    # ---- what may happen -------------------------------------------------------------------------------------

    @rule(prompt_length=st.integers(1, 25), new=st.integers(0, 20), at_once=st.booleans(), seed=seeds)
    def admit(self, prompt_length: int, new: int, at_once: bool, seed: int) -> None:
        max_tokens = prompt_length + new
        hot = min(max_tokens, self.sizes.device_buffer_size + 1)
        fits = (
            max_tokens <= self.sizes.host_tokens - sum(h.max_tokens for h in self.held)
            and max_tokens <= self.sizes.index_tokens - sum(h.max_tokens for h in self.held)
            and hot <= self.sizes.device_tokens - sum(h.seat.device.size for h in self.held)
        )
        assert self.coordinator.can_admit(max_tokens) == fits
        if fits:
            assert self.coordinator.shortfall(max_tokens) is None
            self.held.append(Held(self.coordinator.admit(max_tokens), prompt_length, max_tokens))
            if at_once:
                self._prefill(self.held[-1], prompt_length, seed)

    @rule(which=whiches, tokens=st.integers(1, 25), seed=seeds)
    def prefill_chunk(self, which: int, tokens: int, seed: int) -> None:
        unfinished = [h for h in self.held if not h.is_prefilled]
        if unfinished:
            self._prefill(unfinished[which % len(unfinished)], tokens, seed)

    def _prefill(self, held: Held, tokens: int, seed: int) -> None:
        tokens = min(tokens, held.prompt_length - held.seat.length)
        self.coordinator.begin_chunk(held.seat, tokens)
        generator = torch.Generator().manual_seed(seed)
        for layer in range(LAYOUT.num_layers):
            rows = torch.randn(tokens, LAYOUT.row_dim, generator=generator)
            held.append(layer, rows)
            so_far = self.coordinator.write_prompt(layer, held.seat, rows, last=held.is_prefilled)
            assert torch.equal(so_far, held.rows[layer])
        self.rows_home += tokens * LAYOUT.num_layers
        assert self.coordinator.is_staged(held.seat)
        if held.is_prefilled:  # the prompt's tail is hot
            first = held.seat.length - held.seat.device.num_used
            held.last_use = [
                dict.fromkeys(range(first, held.seat.length), self.clock) for _ in range(LAYOUT.num_groups)
            ]

    @rule(seed=seeds, width=st.integers(1, 12), steps=st.integers(1, 9))
    def decode(self, seed: int, width: int, steps: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(steps):
            ready = [h for h in self.held if h.can_grow]
            if ready:
                self._decode_step(random, width, ready)

    def _decode_step(self, random: np.random.Generator, width: int, ready: list[Held]) -> None:
        batch = [ready[i] for i in random.permutation(len(ready))[: random.integers(1, len(ready) + 1)]]
        self.clock += 1
        self.coordinator.begin_step([h.seat for h in batch])
        for held in batch:
            self._expect_newest_seated(held)
        positions: dict[int, torch.Tensor] = {}
        for layer, group in enumerate(LAYOUT.group_of_layer):
            rows = torch.from_numpy(random.normal(size=(len(batch), LAYOUT.row_dim)).astype(np.float32))
            self.coordinator.write_newest(layer, rows)
            for held, row in zip(batch, rows, strict=True):
                held.append(layer, row[None])
            first_of_group = group not in positions
            if first_of_group:
                positions[group] = torch.stack([self._choose(random, h.seat.length, width) for h in batch])
            slots = self.coordinator.swap_in(layer, positions[group])
            self._expect_selected_rows(layer, batch, positions[group], slots, first_of_group)
        self.coordinator.end_step()
        self.rows_home += len(batch) * LAYOUT.num_layers

    @rule(which=whiches)
    def release(self, which: int) -> None:
        if self.held:
            self.coordinator.release(self.held.pop(which % len(self.held)).seat)

    def _choose(self, random: np.random.Generator, length: int, width: int) -> torch.Tensor:
        """Up to ``device_buffer_size`` distinct positions, some of them more than once, some places left empty."""
        distinct = random.permutation(length)[: min(width, self.sizes.device_buffer_size)]
        return torch.from_numpy(random.choice([*distinct, MASKED], size=width))

    # ---- what must be true -----------------------------------------------------------------------------------

    def _expect_newest_seated(self, held: Held) -> None:
        newest = held.seat.length - 1
        for group in range(LAYOUT.num_groups):
            self._expect_lru(held, group, {newest})

    def _expect_selected_rows(
        self,
        layer: int,
        batch: list[Held],
        positions: torch.Tensor,
        slots: torch.Tensor,
        first_of_group: bool,
    ) -> None:
        group = LAYOUT.group_of_layer[layer]
        hot = self.coordinator.device_rows(layer)
        for held, wanted, at in zip(batch, positions, slots, strict=True):
            valid = wanted != MASKED
            assert ((at >= 0) & (at < self.sizes.device_tokens)).all()
            assert torch.equal(hot[at[valid]], held.rows[layer][wanted[valid]])
            if first_of_group:
                absent = [p for p in wanted[valid].tolist() if p not in held.last_use[group]]
                self.lookups += int(valid.sum()) * LAYOUT.layers_in(group)
                self.misses += len(absent) * LAYOUT.layers_in(group)
                self._expect_lru(held, group, set(wanted[valid].tolist()))

    def _expect_lru(self, held: Held, group: int, used: set[int]) -> None:
        """After ``used`` were touched, exactly the least recently used rows are gone, and no more than needed."""
        before = {p: age for p, age in held.last_use[group].items() if p not in used}
        after = self._hot_positions(held, group)
        assert used <= after
        gone = before.keys() - after
        assert after == used | (before.keys() - gone), "a row became hot that nobody asked for"
        needed = max(0, len(used) + len(before) - held.seat.device.num_used)
        assert sorted(before[p] for p in gone) == sorted(before.values())[:needed]
        self.evictions += needed * LAYOUT.layers_in(group)
        held.last_use[group] = {p: before[p] for p in after - used} | dict.fromkeys(used, self.clock)

    def _hot_positions(self, held: Held, group: int) -> set[int]:
        home, _ = self.coordinator.hot_rows(held.seat, group)
        position_of = {slot: p for p, slot in enumerate(held.seat.host.slots.tolist())}
        return {position_of[slot] for slot in home.tolist()}

    @invariant()
    def the_accounts_add_up(self) -> None:
        self.coordinator.audit([h.seat for h in self.held])
        device, host = self.coordinator.device_pool, self.coordinator.host_pool
        assert device.num_used + device.num_available == device.capacity == self.sizes.device_tokens
        assert host.num_used == sum(h.seat.length for h in self.held)
        assert (
            host.num_reserved
            == sum(h.max_tokens for h in self.held)
            == self.coordinator.host_tokens_reserved + host.num_used
        )
        assert self.coordinator.index_keys.pool.num_used == host.num_used
        stats = self.coordinator.get_token_stats()
        assert stats.device_tokens == sum(self._hot_size(h) for h in self.held)
        assert stats.host_token_usage == host.num_used / host.capacity

    def _hot_size(self, held: Held) -> int:
        return min(held.seat.length, held.seat.device.size) if held.is_prefilled else 0

    @invariant()
    def every_slot_has_one_owner(self) -> None:
        for tier in ("device", "host", "index"):
            slots = [slot for h in self.held for slot in getattr(h.seat, tier).slots.tolist()]
            assert len(slots) == len(set(slots))

    @invariant()
    def every_row_is_home_and_every_hot_row_equals_it(self) -> None:
        for held in self.held:
            for layer, group in enumerate(LAYOUT.group_of_layer):
                home = self.coordinator.host_pool.read(layer, held.seat.host, held.seat.length)
                assert torch.equal(home, held.rows[layer])
                cold, slots = self.coordinator.hot_rows(held.seat, group)
                assert len(slots) == self._hot_size(held)
                hot = self.coordinator.device_rows(layer)[torch.from_numpy(slots)]
                checked = compare_rows(hot, self.coordinator.host_pool.rows[layer][torch.from_numpy(cold)])
                assert checked == (len(slots), 0)

    @invariant()
    def the_counters_count(self) -> None:
        counters = self.coordinator.counters
        assert counters.hits + counters.misses == counters.lookups == self.lookups
        assert counters.misses == self.misses
        assert counters.evictions == self.evictions
        assert counters.device_to_host_bytes == self.rows_home * ROW_BYTES
        assert counters.verify_mismatches == 0

    def teardown(self) -> None:
        if not hasattr(self, "coordinator"):
            return
        event(f"rows were evicted: {self.evictions > 0}")
        for held in self.held:
            self.coordinator.release(held.seat)
        self.coordinator.audit([])
        assert self.coordinator.get_token_stats() == (0, 0.0, 0, 0.0)
        assert self.coordinator.host_tokens_reserved == 0
        assert (self.coordinator.residency.position_at == NONE).all()


TestCoordinator = CoordinatorMachine.TestCase
TestCoordinator.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# ---- the engine ----------------------------------------------------------------------------------------------

MODEL = tiny_model(hidden_size=32, num_hidden_layers=2, index_topk=4, indexer_types=["full", "shared"])
STAGES = (Status.WAITING, Status.PREFILL, Status.STAGING, Status.RUNNING, Status.FINISHED)
lifetimes = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 10), st.sampled_from([*STAGES, None]), st.integers(0, 3)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["hierarchical", "resident"]), lifetimes, st.integers(1, 40))
def test_requests_aborted_at_any_stage_leave_nothing_behind(
    mode: str, plan: list[tuple[int, int, Status | None, int]], chunk: int
) -> None:
    """Each request is aborted as soon as it is seen in its stage (None: never); some arrive later than others."""
    sizes = {
        "device_buffer_size": 4,
        "device_tokens": 12 if mode == "hierarchical" else 60,
        "host_tokens": 60,
    }
    engine = RecordingEngine(MODEL, engine_config(mode=mode, hisparse=sizes, prefill_chunk_size=chunk))
    waves: dict[int, list[tuple[int, int, Status | None]]] = {}
    for prompt, new, stage, arrival in plan:
        waves.setdefault(arrival, []).append((prompt, new, stage))
    requests: list[tuple[Request, Status | None]] = []
    ended: list[Request] = []
    while waves or engine.has_work:
        for prompt, new, stage in waves.pop(min(waves), []) if waves else []:
            params = SamplingParams(max_new_tokens=new, ignore_eos=True)
            requests.append((engine.add_request(random_prompt(prompt, seed=prompt), params), stage))
        _abort_those_in_their_stage(engine, requests)
        ended += engine.step()
        _abort_those_in_their_stage(engine, requests)
    ended += engine.step()
    _assert_all_ended_once(engine, [request for request, _ in requests], ended)


def _abort_those_in_their_stage(
    engine: RecordingEngine, requests: list[tuple[Request, Status | None]]
) -> None:
    for request, stage in requests:
        if request.status is stage:
            engine.abort(request)
            engine.abort(request)  # a second time changes nothing


def _assert_all_ended_once(engine: RecordingEngine, requests: list[Request], ended: list[Request]) -> None:
    assert sorted(r.id for r in ended) == sorted(r.id for r in requests)
    for request in requests:
        assert request.status is Status.FINISHED
        assert request.seat is None
        if request.outcome is Outcome.LENGTH:
            assert len(request.output) == request.params.max_new_tokens
        else:
            assert request.outcome is Outcome.ABORTED
    assert sum(engine.totals.outcomes.values()) == len(requests)
    engine.coordinator.audit([])
    assert engine.coordinator.get_token_stats() == (0, 0.0, 0, 0.0)
    assert engine.coordinator.index_keys.pool.num_reserved == 0
