"""The swap-in reference against an exact-LRU oracle of dicts, over random worlds."""

from __future__ import annotations

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_engine.ops.reference import swap_in as ops
from hisparse_engine.ops.tables import EVICTIONS, LOOKUPS, MISSES, NONE
from tests.support.swap_in_worlds import (
    Batch,
    DictLru,
    Sizes,
    World,
    assert_maps_agree,
    empty_moves,
    next_batch,
)

NUM_LAYERS = 3


@st.composite
def sizes(draw: st.DrawFn) -> Sizes:
    k = draw(st.integers(1, 9))
    requests = draw(st.integers(1, 4))
    buffers, max_lengths = [], []
    for _ in range(requests):
        length = draw(st.integers(1, 40))
        least = min(k + 1, length)
        buffers.append(draw(st.integers(least, max(least, min(length, 3 * k + 1)))))
        max_lengths.append(length)
    return Sizes(k, tuple(buffers), tuple(max_lengths), groups=draw(st.integers(1, 2)))


def play(world: World, group: int, batch: Batch) -> torch.Tensor:
    """Plan and copy one step; return the planned slots."""
    plan = batch.empty_plan()
    ops.plan_swap_in(
        world.tokens, world.hot, group, NUM_LAYERS, batch.rows, batch.lengths, batch.positions, plan
    )
    staged = torch.empty_like(batch.new_rows)
    ops.copy_rows(plan, world.host_rows, world.device_rows[group], batch.new_rows, staged)
    assert torch.equal(staged, batch.new_rows)
    for i, row in enumerate(batch.rows.tolist()):  # the new row's backup
        if row == NONE:
            assert int(plan.newest[i]) == NONE
            assert bool((plan.slots[i] == NONE).all())
        else:
            world.host_rows[_home(world, row, int(batch.lengths[i]) - 1)] = batch.new_rows[i]
    return plan.slots


def _home(world: World, row: int, position: int) -> int:
    return int(world.tokens.home[int(world.tokens.start[row]) + position])


def assert_rows_are_home_rows(world: World, group: int) -> None:
    for row in range(len(world.lengths)):
        for slot in world.buffer_of(row):
            position = int(world.hot.position_at[group, slot])
            if position != NONE:
                home = world.host_rows[_home(world, row, position)]
                assert torch.equal(world.device_rows[group, slot], home)


@settings(max_examples=60, deadline=None)
@given(sizes(), st.integers(0, 1 << 30))
def test_many_steps_equal_exact_lru(shape: Sizes, seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    world = World.make(shape, rng)
    oracle = [[DictLru(world.buffer_of(r)) for r in range(len(shape.buffers))] for _ in range(shape.groups)]
    counts = [0, 0, 0]
    for _ in range(12):
        batch = next_batch(world, rng)
        for group in range(shape.groups):
            slots = play(world, group, batch)
            for i, row in enumerate(batch.rows.tolist()):
                if row == NONE:
                    continue
                wanted = batch.positions[i].tolist()
                lru = oracle[group][row]
                copied, evicted = lru.step(int(world.hot.now), wanted, int(batch.lengths[i]) - 1)
                assert slots[i].tolist() == [NONE if p == NONE else lru.slot_of[p] for p in wanted]
                start = int(world.tokens.start[row])
                resident = {
                    p: s
                    for p, s in enumerate(world.hot.where[group, start:][: world.lengths[row]].tolist())
                    if s != NONE
                }
                assert resident == lru.slot_of
                counts[LOOKUPS] += sum(p != NONE for p in wanted)
                counts[MISSES] += len(copied)
                counts[EVICTIONS] += evicted
            assert_maps_agree(world, group)
            assert_rows_are_home_rows(world, group)
    assert world.hot.counts.tolist() == [NUM_LAYERS * count for count in counts]


def test_copies_are_listed_in_order_and_each_once() -> None:
    world = World.make(Sizes(4, (5,), (20,)), random.Random(1))
    world.lengths[0] = 20
    world.hot.now.add_(1)
    positions = torch.tensor([[3, 7, 7, 11]], dtype=torch.int32)
    one, length = torch.tensor([0], dtype=torch.int32), torch.tensor([20], dtype=torch.int32)
    batch = Batch(one, length, positions, torch.zeros(1, 32, dtype=torch.uint8))
    plan = batch.empty_plan()
    ops.plan_swap_in(world.tokens, world.hot, 0, 1, one, length, positions, plan)
    assert int(plan.num_copies) == 3
    assert plan.copy_from[:3].tolist() == [_home(world, 0, p) for p in (3, 7, 11)]
    assert plan.copy_to[:3].tolist() == plan.slots[0, [0, 1, 3]].tolist()
    assert int(plan.newest[0]) not in plan.slots[0].tolist()


@settings(max_examples=60, deadline=None)
@given(sizes(), st.integers(0, 1 << 30), st.integers(0, 40))
def test_shrinking_keeps_the_hottest_rows_and_their_bytes(shape: Sizes, seed: int, kept: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    world = World.make(shape, rng)
    for _ in range(4):
        batch = next_batch(world, rng)
        for group in range(shape.groups):
            play(world, group, batch)
    row, before = 0, world.buffer_of(0)
    ages = [
        sorted((a for a in world.hot.last_use[group, before].tolist() if a), reverse=True)
        for group in range(shape.groups)
    ]
    counts = world.hot.counts.clone()
    moves = empty_moves(world)
    ops.shrink_buffer(world.tokens, world.hot, row, kept, moves)
    ops.move_rows(world.device_rows, torch.arange(shape.groups, dtype=torch.int32), moves)
    after = world.buffer_of(0)
    assert after == before[:kept]
    given_up = before[len(after) :]
    for group in range(shape.groups):
        assert_maps_agree(world, group)
        assert_rows_are_home_rows(world, group)
        left = sorted((a for a in world.hot.last_use[group, after].tolist() if a), reverse=True)
        assert left == ages[group][: len(after)]
        assert bool((world.hot.position_at[group, given_up] == NONE).all())
        assert bool((world.hot.last_use[group, given_up] == 0).all())
        count = int(moves.count[group])
        assert set(moves.source[group, :count].tolist()) <= set(given_up)
        assert set(moves.target[group, :count].tolist()) <= set(after)
    assert torch.equal(world.hot.counts, counts)


@settings(max_examples=40, deadline=None)
@given(sizes(), st.integers(0, 1 << 30))
def test_locating_reads_the_home_of_every_position(shape: Sizes, seed: int) -> None:
    rng = random.Random(seed)
    world = World.make(shape, rng)
    batch = next_batch(world, rng)
    slots = torch.full_like(batch.positions, 1 << 20)
    before = world.host_rows.clone()
    ops.locate(
        world.tokens, batch.rows, batch.lengths, batch.positions, world.host_rows, batch.new_rows, slots
    )
    for i, row in enumerate(batch.rows.tolist()):
        wanted = batch.positions[i].tolist()
        assert slots[i].tolist() == [NONE if p == NONE else _home(world, row, p) for p in wanted]
        if row != NONE:
            before[_home(world, row, int(batch.lengths[i]) - 1)] = batch.new_rows[i]
    assert torch.equal(world.host_rows, before)


def test_backups_go_to_their_homes_and_padding_nowhere() -> None:
    staged = torch.randint(0, 256, (2, 3, 32)).byte()
    host = torch.zeros(2, 6, 32, dtype=torch.uint8)
    ops.backup_rows(staged, host, torch.tensor([4, NONE, 1], dtype=torch.int32))
    assert torch.equal(host[:, [4, 1]], staged[:, [0, 2]])
    assert not host[:, [0, 2, 3, 5]].any()
