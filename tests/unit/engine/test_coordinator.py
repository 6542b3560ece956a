"""The split by example: what is home, what is hot, what was moved. Random schedules are in tests/property."""

from __future__ import annotations

import pytest
import torch

from hisparse_engine.coordinator import HiSparseCoordinator
from hisparse_engine.errors import InvariantError
from hisparse_engine.kv import EagerKVCoordinator, KVLayout, PoolSizes, Seat, Shortfall
from hisparse_engine.ops.select import MASKED
from hisparse_engine.resident import ResidentCoordinator

LAYOUT = KVLayout.from_indexer_types(3, 2, ["full", "shared", "full"])
LAYERS, WIDTH = LAYOUT.num_layers, LAYOUT.row_dim
ROW_BYTES = WIDTH * 4
SIZES = PoolSizes(device_tokens=20, host_tokens=40, index_tokens=40, device_buffer_size=4)


def make(sizes: PoolSizes = SIZES, verify_every: int = 0) -> HiSparseCoordinator:
    return HiSparseCoordinator(LAYOUT, sizes, verify_every=verify_every)


def row_of(layer: int, position: int) -> torch.Tensor:
    return torch.full((WIDTH,), 100.0 * layer + position)


def rows_of(layer: int, positions: range) -> torch.Tensor:
    return torch.stack([row_of(layer, position) for position in positions])


def prefill(coordinator: EagerKVCoordinator, prompt: int, *, new: int = 8, chunk: int = 100) -> Seat:
    seat = coordinator.admit(prompt + new)
    for start in range(0, prompt, chunk):
        stop = min(start + chunk, prompt)
        coordinator.begin_chunk(seat, stop - start)
        for layer in range(LAYERS):
            rows = rows_of(layer, range(start, stop))
            so_far = coordinator.write_prompt(layer, seat, rows, last=stop == prompt)
            assert torch.equal(so_far, rows_of(layer, range(stop)))
    return seat


def decode(coordinator: EagerKVCoordinator, seat: Seat, positions: list[int]) -> None:
    """One step of one request: attend ``positions`` in every layer."""
    coordinator.begin_step([seat])
    for layer in range(LAYERS):
        coordinator.write_newest(layer, row_of(layer, seat.length - 1)[None])
        slots = coordinator.swap_in(layer, torch.tensor([positions]))
        for position, slot in zip(positions, slots[0].tolist(), strict=True):
            if position != MASKED:
                assert torch.equal(coordinator.device_rows(layer)[slot], row_of(layer, position))
    coordinator.end_step()


def hot_positions(coordinator: HiSparseCoordinator, seat: Seat, group: int = 0) -> list[int]:
    home, _ = coordinator.hot_rows(seat, group)
    return sorted(seat.host.slots.tolist().index(slot) for slot in home.tolist())


def test_layers_share_the_group_of_the_last_full_layer() -> None:
    layout = KVLayout.from_indexer_types(3, 2, ["full", "shared", "shared", "full", "full", "shared"])
    assert layout.group_of_layer == (0, 0, 0, 1, 2, 2)
    assert (layout.num_layers, layout.num_groups) == (6, 3)
    assert [layout.layers_in(group) for group in range(3)] == [3, 1, 2]


@pytest.mark.parametrize("make_coordinator", [make, lambda: ResidentCoordinator(LAYOUT, SIZES)])
def test_one_requests_life(make_coordinator: object) -> None:
    coordinator: EagerKVCoordinator = make_coordinator()  # type: ignore[operator]
    seat = prefill(coordinator, 9, chunk=4)
    assert coordinator.is_staged(seat)
    for positions in ([0, 9, 3, MASKED], [0, 1, 2, 3], [11, 10, 9, 9], [MASKED, MASKED, 12, MASKED]):
        decode(coordinator, seat, positions)
    coordinator.audit([seat])
    coordinator.release(seat)
    coordinator.audit([])
    assert coordinator.get_token_stats() == (0, 0.0, 0, 0.0)


def test_a_prompts_tail_is_hot_after_prefill() -> None:
    coordinator = make()
    seat = prefill(coordinator, 9)
    assert hot_positions(coordinator, seat) == [4, 5, 6, 7, 8]
    assert coordinator.get_token_stats() == (5, 5 / 20, 9, 9 / 40)


def test_rows_on_their_way_through_prefill_take_no_device_slot() -> None:
    coordinator = make()
    seat = coordinator.admit(10)
    coordinator.begin_chunk(seat, 4)
    for layer in range(LAYERS):
        coordinator.write_prompt(layer, seat, rows_of(layer, range(4)), last=False)
    assert coordinator.get_token_stats() == (0, 0.0, 4, 4 / 40)
    assert coordinator.host_tokens_reserved == 6  # of 10 promised, 4 are in use


def test_the_first_prompt_of_all_keeps_its_rows_while_slots_are_free() -> None:
    """Rows seated before the first decode step are rows, not empty slots."""
    sizes = PoolSizes(device_tokens=20, host_tokens=40, index_tokens=40, device_buffer_size=12)
    coordinator = make(sizes)
    seat = prefill(coordinator, 5, new=5)
    for step in range(5):
        decode(coordinator, seat, [*range(6 + step)])
    assert coordinator.counters.misses == coordinator.counters.evictions == 0
    assert hot_positions(coordinator, seat) == list(range(10))


def test_short_sequences_live_wholly_in_their_buffer() -> None:
    coordinator = make()
    seat = prefill(coordinator, 2, new=3)
    for length in (3, 4, 5):
        decode(coordinator, seat, [*range(length)][-4:])
        assert hot_positions(coordinator, seat) == list(range(length))
    assert coordinator.counters.misses == 0
    assert coordinator.counters.host_to_device_bytes == 0


def test_counters_count_rows_of_every_layer() -> None:
    coordinator = make()
    seat = prefill(coordinator, 9)
    written = 9 * LAYERS * ROW_BYTES
    assert coordinator.counters.device_to_host_bytes == written
    decode(coordinator, seat, [0, 0, 8, 9])  # 0 is missing (asked for twice), 8 and the newest are hot
    counters = coordinator.counters
    assert (counters.lookups, counters.hits, counters.misses) == (4 * LAYERS, 2 * LAYERS, 2 * LAYERS)
    assert counters.evictions == 2 * LAYERS  # for the newest token, and for row 0
    assert counters.host_to_device_bytes == LAYERS * ROW_BYTES
    assert counters.device_to_host_bytes == written + LAYERS * ROW_BYTES
    assert counters.step_seconds > 0


def test_the_least_recently_used_rows_leave() -> None:
    coordinator = make()
    seat = prefill(coordinator, 9)  # 4 … 8 hot
    decode(coordinator, seat, [5, 6, 7, 8])  # 9 takes the seat of 4
    decode(
        coordinator, seat, [0, 7, 8]
    )  # 10 and 0 take two of 5, 6, 9: all used in the last step, or it is 9
    decode(coordinator, seat, [0, 7, 8, 10])  # 11 takes the last seat of 5, 6, 9
    assert hot_positions(coordinator, seat) == [0, 7, 8, 10, 11]


def test_a_row_that_lost_its_seat_comes_back_as_it_was_written() -> None:
    coordinator = make()
    seat = prefill(coordinator, 9)
    decode(coordinator, seat, [0, 1, 2, 3])  # everything else but the newest, 9, is out
    decode(coordinator, seat, [4, 5, 6, 7])  # and now 9 is
    assert 9 not in hot_positions(coordinator, seat)
    decode(coordinator, seat, [9])


def test_groups_choose_for_themselves() -> None:
    coordinator = make()
    seat = prefill(coordinator, 9)
    coordinator.begin_step([seat])
    for layer, wanted in enumerate(([0, 1], [0, 1], [2, 3])):
        coordinator.write_newest(layer, row_of(layer, 9)[None])
        slots = coordinator.swap_in(layer, torch.tensor([wanted]))
        assert torch.equal(
            coordinator.device_rows(layer)[slots[0]], torch.stack([row_of(layer, p) for p in wanted])
        )
    coordinator.end_step()
    assert {0, 1} <= set(hot_positions(coordinator, seat, group=0))
    assert {2, 3} <= set(hot_positions(coordinator, seat, group=1))
    assert not {2, 3} & set(hot_positions(coordinator, seat, group=0))


def test_admission_asks_all_three_resources() -> None:
    for field in ("device_tokens", "host_tokens", "index_tokens"):
        sizes = PoolSizes(
            **{"device_tokens": 20, "host_tokens": 20, "index_tokens": 20, "device_buffer_size": 9, field: 9}
        )
        assert make(sizes).can_admit(9)
        assert not make(sizes).can_admit(10)
    coordinator = make(PoolSizes(device_tokens=10, host_tokens=99, index_tokens=99, device_buffer_size=4))
    coordinator.admit(50)
    assert coordinator.can_admit(5), "the device owes a long request its hot buffer only"
    coordinator.admit(5)
    assert not coordinator.can_admit(1)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (PoolSizes(20, 9, 20, 4), Shortfall("host pool", 10, 9, "raise --host-tokens")),
        (
            PoolSizes(4, 20, 20, 4),
            Shortfall("device pool", 5, 4, "raise --device-tokens, lower --device-buffer-size"),
        ),
        (PoolSizes(20, 20, 9, 4), Shortfall("index keys", 10, 9, "raise --index-tokens")),
        (PoolSizes(5, 10, 10, 4), None),
    ],
)
def test_shortfall_names_the_resource_and_the_remedy(sizes: PoolSizes, expected: Shortfall | None) -> None:
    assert make(sizes).shortfall(10) == expected


def test_verification_compares_hot_rows_with_their_home() -> None:
    coordinator = make(verify_every=1)
    seat = prefill(coordinator, 9)
    decode(coordinator, seat, [0, 1, 2])
    assert coordinator.counters.verify_checks == 5
    assert coordinator.counters.verify_mismatches == 0
    coordinator.host_pool.rows += 1.0
    decode_without_reading(coordinator, seat)
    assert coordinator.counters.verify_mismatches == 4  # all but the row that was just written home


def decode_without_reading(coordinator: HiSparseCoordinator, seat: Seat) -> None:
    coordinator.begin_step([seat])
    for layer in range(LAYERS):
        coordinator.write_newest(layer, row_of(layer, seat.length - 1)[None])
    coordinator.end_step()


def test_decode_operations_belong_into_a_step() -> None:
    coordinator = make()
    seat = prefill(coordinator, 3)
    with pytest.raises(InvariantError, match="outside begin_step … end_step"):
        coordinator.write_newest(0, row_of(0, 3)[None])
    decode(coordinator, seat, [0])
    with pytest.raises(InvariantError, match="outside begin_step … end_step"):
        coordinator.end_step()


def test_audit_finds_a_row_that_does_not_exist_and_a_one_way_map() -> None:
    coordinator = make()
    seats = [prefill(coordinator, 9), prefill(coordinator, 9)]
    coordinator.audit(seats)
    position_at, slot = coordinator.residency.position_at, seats[0].device.slots[0]
    true = int(position_at[0, slot])
    position_at[0, slot] = 0
    with pytest.raises(InvariantError, match="group 0: the residency map's two directions disagree"):
        coordinator.audit(seats)
    position_at[0, slot] = 9
    with pytest.raises(
        InvariantError, match="group 0: a hot buffer holds a row that its request does not have"
    ):
        coordinator.audit(seats)
    position_at[0, slot] = true
    with pytest.raises(InvariantError, match="device pool: 5 held"):
        coordinator.audit(seats[:1])
