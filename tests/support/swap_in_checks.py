"""Checks of an implementation of the swap-in operations against the reference, on whatever device it runs.

Which of several equally old seats is taken is the implementation's choice, so every step starts from its own state, and
the victims' ages are compared instead of their names.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import fields, replace

import torch

from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.reference import swap_in as reference
from hisparse_engine.ops.tables import NONE, HotTables, Moves, SwapPlan, TokenTables
from tests.support.swap_in_worlds import Batch, Sizes, World, assert_maps_agree, empty_moves, next_batch

NUM_LAYERS = 3


def random_sizes(rng: random.Random, k_most: int, growth: int, groups: int = 2) -> Sizes:
    """Draw a world: ``k`` up to ``k_most``, buffers up to ``growth`` times as long, sequences longer still."""
    k = rng.randint(1, k_most)
    lengths = tuple(rng.randint(1, 3 * growth * k) for _ in range(rng.randint(1, 4)))
    buffers = tuple(min(length, rng.randint(k + 1, growth * k + 1)) for length in lengths)
    return Sizes(
        k, buffers, lengths, groups=rng.randint(1, groups), row_bytes=16 * rng.choice([1, 2, 41, 72])
    )


def on_device(value: object, device: torch.device) -> object:
    """Return a dataclass of tensors on ``device``."""
    moved = {f.name: getattr(value, f.name).to(device) for f in fields(value)}  # type: ignore[arg-type]
    return replace(value, **moved)  # type: ignore[type-var]


def check_steps(ops: Operations, rng: random.Random, sizes: Sizes, steps: int, device: torch.device) -> None:
    """Play ``steps`` decode steps, some of which cut a buffer or repeat a step's plan; check each operation's effect."""
    world = World.make(sizes, rng)
    check_locate(ops, world, rng, device)
    for _ in range(steps):
        if rng.random() < 0.1:
            world.hot.now.add_(rng.choice([5, 700, 100_000]))  # old ages
        batch = next_batch(world, rng)
        for group in range(sizes.groups):
            check_plan_and_copy(ops, world, group, batch, device)
        if rng.random() < 0.3:
            check_shrink(ops, world, rng, device)


def check_plan_and_copy(
    ops: Operations, world: World, group: int, batch: Batch, device: torch.device
) -> None:
    """Plan and copy by ``ops`` from the world's state, which then becomes what ``ops`` made of it."""
    before = copy.deepcopy(world.hot)
    expected_hot, expected = copy.deepcopy(world.hot), batch.empty_plan()
    reference.plan_swap_in(
        world.tokens, expected_hot, group, NUM_LAYERS, batch.rows, batch.lengths, batch.positions, expected
    )

    tokens, hot = on_device(world.tokens, device), on_device(world.hot, device)
    there, plan = on_device(batch, device), on_device(batch.empty_plan(), device)
    assert isinstance(tokens, TokenTables)
    assert isinstance(hot, HotTables)
    assert isinstance(there, Batch)
    assert isinstance(plan, SwapPlan)
    host_rows = world.host_rows.pin_memory() if device.type == "cuda" else world.host_rows
    device_rows = world.device_rows[group].to(device)
    staged = torch.full_like(there.new_rows, 1)
    ops.plan_swap_in(tokens, hot, group, NUM_LAYERS, there.rows, there.lengths, there.positions, plan)
    ops.copy_rows(plan, host_rows, device_rows, there.new_rows, staged)
    home = torch.full_like(there.rows, NONE)
    real = there.rows != NONE
    home[real] = tokens.home[tokens.start[there.rows[real].long()] + there.lengths[real].long() - 1]
    ops.backup_rows(staged.unsqueeze(0), host_rows.unsqueeze(0), home)

    synchronize(device)
    cpu = torch.device("cpu")
    world.hot, plan = on_device(hot, cpu), on_device(plan, cpu)  # type: ignore[assignment]
    world.host_rows, world.device_rows[group] = host_rows.clone(), device_rows.cpu()
    assert torch.equal(staged.cpu(), batch.new_rows)
    assert_as_good(world, group, batch, before, plan, expected_hot, expected)
    assert_maps_agree(world, group)
    assert_rows(world, group)


def assert_as_good(
    world: World,
    group: int,
    batch: Batch,
    before: HotTables,
    plan: SwapPlan,
    expected_hot: HotTables,
    expected: SwapPlan,
) -> None:
    """The plan does what the reference's does, with victims as old as the reference's."""
    assert world.hot.counts.tolist() == expected_hot.counts.tolist()
    assert torch.equal(world.hot.buffer_size, before.buffer_size)
    count = int(plan.num_copies)
    assert count == int(expected.num_copies)
    lists = dict(zip(plan.copy_from[:count].tolist(), range(count), strict=True))
    listed = [lists[source] for source in expected.copy_from[:count].tolist()]  # the same rows, in some order
    assert plan.copy_to[listed].tolist() == [
        _slot_of_home(world, group, source) for source in expected.copy_from[:count].tolist()
    ]
    for i, row in enumerate(batch.rows.tolist()):
        if row == NONE:
            assert int(plan.newest[i]) == NONE
            assert bool((plan.slots[i] == NONE).all())
            continue
        where = world.hot.where[group, int(world.tokens.start[row]) :]
        for position, slot in zip(batch.positions[i].tolist(), plan.slots[i].tolist(), strict=True):
            assert slot == (NONE if position == NONE else int(where[position]))
        assert int(plan.newest[i]) == int(where[int(batch.lengths[i]) - 1]) != NONE
        buffer = world.buffer_of(row)
        used = (expected_hot.last_use[group, buffer] == expected_hot.now).sum()
        assert int((world.hot.last_use[group, buffer] == world.hot.now).sum()) == int(used)
        now = int(before.now)
        taken = _taken(before, world.hot, group, buffer, now)
        assert taken == _taken(before, expected_hot, group, buffer, now)
        mine = [at for at in listed if int(plan.copy_to[at]) in buffer]
        wanted = [p for p in batch.positions[i].tolist() if p != NONE]
        assert wanted != sorted(wanted) or mine == sorted(mine), "ascending positions are copied in order"


def _slot_of_home(world: World, group: int, home: int) -> int:
    at = int((world.tokens.home == home).nonzero().item())
    return int(world.hot.where[group, at])


def _taken(before: HotTables, after: HotTables, group: int, buffer: list[int], now: int) -> list[int]:
    """Return the age classes of the seats that somebody new sits in."""
    changed = before.position_at[group, buffer] != after.position_at[group, buffer]
    return sorted(age_class(age, now) for age in before.last_use[group, buffer][changed].tolist())


def age_class(last_use: int, now: int) -> int:
    """Return what the GPU tells ages apart by, 16 classes an octave; larger is older, empty the oldest."""
    age = now - last_use
    if last_use == 0:
        return 1 << 30
    if age < 32:
        return age
    octave = age.bit_length() - 1
    return (octave << 4) + ((age >> (octave - 4)) & 15)


def assert_rows(world: World, group: int) -> None:
    """Every resident row is its home row."""
    for row in range(len(world.lengths)):
        start, buffer = int(world.tokens.start[row]), world.buffer_of(row)
        positions = world.hot.position_at[group, buffer]
        seats = torch.tensor(buffer, dtype=torch.int64)[positions != NONE]
        home = world.tokens.home[start + positions[positions != NONE].long()]
        assert torch.equal(world.device_rows[group, seats], world.host_rows[home.long()])


def check_shrink(ops: Operations, world: World, rng: random.Random, device: torch.device) -> None:
    """Cut one buffer, and give back what it lost so that later steps still fit."""
    row = rng.randrange(len(world.lengths))
    size = int(world.hot.buffer_size[row])
    kept = rng.randint(0, size + 1)
    expected, expected_moves = copy.deepcopy(world.hot), empty_moves(world)
    reference.shrink_buffer(world.tokens, expected, row, kept, expected_moves)
    tokens, hot, moves = (on_device(v, device) for v in (world.tokens, world.hot, empty_moves(world)))
    assert isinstance(tokens, TokenTables)
    assert isinstance(hot, HotTables)
    assert isinstance(moves, Moves)
    device_rows = world.device_rows.to(device)
    ops.shrink_buffer(tokens, hot, row, kept, moves)
    ops.move_rows(device_rows, torch.arange(world.sizes.groups, dtype=torch.int32, device=device), moves)
    synchronize(device)
    world.hot, world.device_rows = on_device(hot, torch.device("cpu")), device_rows.cpu()  # type: ignore[assignment]
    for field in fields(HotTables):
        assert torch.equal(getattr(world.hot, field.name), getattr(expected, field.name)), field.name
    for group in range(world.sizes.groups):
        count = int(expected_moves.count[group])
        assert int(moves.count[group]) == count
        assert torch.equal(moves.source[group, :count].cpu(), expected_moves.source[group, :count])
        assert torch.equal(moves.target[group, :count].cpu(), expected_moves.target[group, :count])
        assert_rows(world, group)
    world.hot.buffer_size[row] = size


def check_locate(ops: Operations, world: World, rng: random.Random, device: torch.device) -> None:
    """Resident mode's swap-in, with the host pool playing the device."""
    ahead = copy.deepcopy(world)
    batch = next_batch(ahead, rng)
    expected_rows, expected = ahead.host_rows.clone(), torch.full_like(batch.positions, 1 << 20)
    reference.locate(
        world.tokens, batch.rows, batch.lengths, batch.positions, expected_rows, batch.new_rows, expected
    )
    tokens, there = on_device(world.tokens, device), on_device(batch, device)
    assert isinstance(tokens, TokenTables)
    assert isinstance(there, Batch)
    rows, slots = world.host_rows.to(device, copy=True), torch.full_like(there.positions, 1 << 20)
    ops.locate(tokens, there.rows, there.lengths, there.positions, rows, there.new_rows, slots)
    synchronize(device)
    assert torch.equal(slots.cpu(), expected)
    assert torch.equal(rows.cpu(), expected_rows)


def synchronize(device: torch.device) -> None:
    """Wait for the device, where there is something to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def worlds(seed: int, count: int, k_most: int, growth: int) -> Iterator[tuple[random.Random, Sizes]]:
    """Yield random worlds' sizes, each with its own source of randomness."""
    for i in range(count):
        rng = random.Random(seed + i)
        torch.manual_seed(seed + i)
        yield rng, random_sizes(rng, k_most, growth)
