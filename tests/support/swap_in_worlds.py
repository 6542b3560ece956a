"""Random two-tier worlds for the swap-in operations, and an independent exact-LRU oracle made of dicts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from hisparse_engine.ops.tables import NONE, HotTables, Moves, SwapPlan, TokenTables


@dataclass(frozen=True)
class Sizes:
    """What a world is made of; request ``i`` may grow to ``max_lengths[i]`` tokens."""

    k: int
    buffers: tuple[int, ...]
    max_lengths: tuple[int, ...]
    groups: int = 1
    row_bytes: int = 32


@dataclass
class World:
    """Tables, pools and the requests' lengths."""

    sizes: Sizes
    tokens: TokenTables
    hot: HotTables
    host_rows: torch.Tensor  # uint8 [host_tokens, row_bytes]; request tokens' rows are random
    device_rows: torch.Tensor  # uint8 [groups, device_tokens, row_bytes]
    lengths: list[int]

    @classmethod
    def make(cls, sizes: Sizes, rng: random.Random) -> World:
        """Scatter every request's tokens and buffer over the tables; nothing is resident."""
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        requests = len(sizes.buffers)
        host_tokens, device_tokens = sum(sizes.max_lengths) + 5, sum(sizes.buffers) + 5
        stretch = [length + 2 for length in sizes.max_lengths]
        start = [sum(stretch[:i]) for i in range(requests)]
        table_tokens = sum(stretch)
        home = torch.full((table_tokens,), NONE, dtype=torch.int32)
        host_order = torch.randperm(host_tokens, generator=generator).int()
        device_order = torch.randperm(device_tokens, generator=generator).int()
        buffer = torch.full((requests, max(sizes.buffers)), NONE, dtype=torch.int32)
        for i in range(requests):
            first = sum(sizes.max_lengths[:i])
            home[start[i] : start[i] + sizes.max_lengths[i]] = host_order[
                first : first + sizes.max_lengths[i]
            ]
            first = sum(sizes.buffers[:i])
            buffer[i, : sizes.buffers[i]] = device_order[first : first + sizes.buffers[i]]
        hot = HotTables(
            where=torch.full((sizes.groups, table_tokens), NONE, dtype=torch.int32),
            position_at=torch.full((sizes.groups, device_tokens), NONE, dtype=torch.int32),
            last_use=torch.zeros((sizes.groups, device_tokens), dtype=torch.int32),
            buffer=buffer,
            buffer_size=torch.tensor(sizes.buffers, dtype=torch.int32),
            now=torch.zeros(1, dtype=torch.int32),
            counts=torch.zeros(3, dtype=torch.int64),
        )
        rows = torch.randint(0, 256, (host_tokens, sizes.row_bytes), generator=generator).byte()
        return cls(
            sizes,
            TokenTables(torch.tensor(start), torch.full((table_tokens,), NONE, dtype=torch.int32), home),
            hot,
            rows,
            torch.zeros((sizes.groups, device_tokens, sizes.row_bytes), dtype=torch.uint8),
            [rng.randint(0, length - 1) for length in sizes.max_lengths],
        )

    def buffer_of(self, row: int) -> list[int]:
        """Return the device slots of a request's buffer."""
        return list(self.hot.buffer[row, : int(self.hot.buffer_size[row])].tolist())


@dataclass(frozen=True)
class Batch:
    """One step's inputs: one new token for each request in ``rows``; padded entries are NONE."""

    rows: torch.Tensor
    lengths: torch.Tensor
    positions: torch.Tensor
    new_rows: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.rows)

    def empty_plan(self) -> SwapPlan:
        """Return a plan of garbage, its count zero."""
        count = self.positions.numel()
        return SwapPlan(
            slots=torch.full_like(self.positions, 1 << 20),
            newest=torch.full_like(self.rows, 1 << 20),
            copy_from=torch.full((count,), 1 << 20, dtype=torch.int32),
            copy_to=torch.full((count,), 1 << 20, dtype=torch.int32),
            num_copies=torch.zeros(1, dtype=torch.int32),
        )


def next_batch(world: World, rng: random.Random) -> Batch:
    """Pick some requests that can grow, in any order, with padding between; advance the clock and their lengths."""
    able = [i for i, length in enumerate(world.lengths) if length < world.sizes.max_lengths[i]]
    rng.shuffle(able)
    rows = able[: rng.randint(0, len(able))]
    rows += [NONE] * rng.randint(0 if rows else 1, 2)
    rng.shuffle(rows)
    positions = torch.full((len(rows), world.sizes.k), NONE, dtype=torch.int32)
    for i, row in enumerate(rows):
        if row == NONE:
            continue
        world.lengths[row] += 1
        wanted = _wanted(world.lengths[row], world.sizes.k, rng)
        positions[i, : len(wanted)] = torch.tensor(wanted, dtype=torch.int32)
    lengths = [0 if row == NONE else world.lengths[row] for row in rows]
    new_rows = torch.randint(0, 256, (len(rows), world.sizes.row_bytes)).byte()
    world.hot.now.add_(1)
    rows_tensor = torch.tensor(rows, dtype=torch.int32)
    return Batch(rows_tensor, torch.tensor(lengths, dtype=torch.int32), positions, new_rows)


def _wanted(length: int, k: int, rng: random.Random) -> list[int]:
    """Pick up to ``k`` positions near a random place: ascending, or shuffled with gaps and duplicates."""
    span = min(length, rng.choice([k, 2 * k, length]))
    first = rng.randint(0, length - span)
    wanted = rng.sample(range(first, first + span), min(span, rng.randint(0, k)))
    if rng.random() < 0.5:
        return sorted(wanted)
    spare = k - len(wanted)
    wanted += [rng.choice([NONE, *wanted]) for _ in range(rng.randint(0, spare))]
    rng.shuffle(wanted)
    return wanted


@dataclass
class DictLru:
    """Exact LRU of one request's buffer in one group, told in dicts: what should be resident, and how old it is."""

    buffer: list[int]  # device slots
    slot_of: dict[int, int] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)  # by position

    def step(self, now: int, wanted: Sequence[int], newest: int) -> tuple[list[int], int]:
        """Return the positions to copy, in order, and how many rows lost their seat."""
        needed = list(dict.fromkeys([p for p in wanted if p != NONE] + [newest]))
        for position in needed:
            if position in self.slot_of:
                self.used[position] = now
        absent = [p for p in needed if p not in self.slot_of]
        absent.sort(key=lambda p: p == newest)  # it is seated last
        evicted = 0
        for position in absent:
            slot, cold = self._coldest()
            if cold is not None:
                assert self.used[cold] < now, "the oracle's buffer is too small"
                del self.slot_of[cold], self.used[cold]
                evicted += 1
            self.slot_of[position], self.used[position] = slot, now
        return [p for p in absent if p != newest], evicted

    def _coldest(self) -> tuple[int, int | None]:
        tenant = {slot: position for position, slot in self.slot_of.items()}
        slot = min(
            self.buffer, key=lambda s: self.used[tenant[s]] if s in tenant else 0
        )  # the first of equals
        return slot, tenant.get(slot)


def assert_maps_agree(world: World, group: int) -> None:
    """Both directions of the maps say the same, every row is in its request's buffer, empty slots have age 0."""
    hot = world.hot
    tenants = 0
    for row in range(len(world.lengths)):
        start = int(world.tokens.start[row])
        where = hot.where[group, start : start + world.sizes.max_lengths[row]]
        for position in (where != NONE).nonzero().flatten().tolist():
            slot = int(where[position])
            assert slot in world.buffer_of(row)
            assert int(hot.position_at[group, slot]) == position
            tenants += 1
    assert int((hot.position_at[group] != NONE).sum()) == tenants
    assert bool(((hot.last_use[group] > 0) == (hot.position_at[group] != NONE)).all())


def empty_moves(world: World) -> Moves:
    """Return move lists of garbage, as long as any shrink can need."""
    shape = (world.sizes.groups, max(world.sizes.buffers))
    return Moves(
        torch.full(shape, 1 << 20, dtype=torch.int32),
        torch.full(shape, 1 << 20, dtype=torch.int32),
        torch.full((shape[0],), 1 << 20, dtype=torch.int32),
    )
