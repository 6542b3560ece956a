"""A pool's account (reserved, used, available) and its rows."""

from __future__ import annotations

import pytest
import torch

from hisparse_engine.errors import InvariantError
from hisparse_engine.memory.audit import audit_pool
from hisparse_engine.memory.index_keys import IndexKeys
from hisparse_engine.memory.pool import Claim, TokenPool


def make_pool(capacity: int = 10, *, num_layers: int = 2, width: int = 3) -> TokenPool:
    return TokenPool(capacity, num_layers, width, dtype=torch.float32, device=torch.device("cpu"))


def fragmented_claim(pool: TokenPool) -> Claim:
    """A claim of five slots in two runs; the rest of a pool of ten is held by somebody else."""
    claims = [pool.reserve(count) for count in (3, 2, 2, 3)]
    pool.release(claims[0])
    pool.release(claims[2])
    return pool.reserve(5)


def rows(count: int, *, first: int = 1, width: int = 3) -> torch.Tensor:
    return torch.arange(first * width, (first + count) * width, dtype=torch.float32).view(count, width)


def test_reserving_uses_nothing_and_using_reserves_nothing() -> None:
    pool = make_pool()
    claim = pool.reserve(6)
    assert (pool.num_reserved, pool.num_unreserved, pool.num_used, pool.num_available) == (6, 4, 0, 10)
    pool.use(claim, 4)
    assert (pool.num_reserved, pool.num_unreserved, pool.num_used, pool.num_available) == (6, 4, 4, 6)
    pool.release(claim)
    assert (pool.num_reserved, pool.num_unreserved, pool.num_used, pool.num_available) == (0, 10, 0, 10)
    assert (claim.size, claim.num_used, claim.start) == (0, 0, None)


@pytest.mark.parametrize("count", [7, 3], ids=["more than reserved", "fewer than in use"])
def test_use_keeps_to_the_claim(count: int) -> None:
    pool = make_pool()
    claim = pool.reserve(6)
    pool.use(claim, 4)
    with pytest.raises(InvariantError, match=rf"use\({count}\) of a claim of 6 slots, 4 in use"):
        pool.use(claim, count)


def test_a_pool_is_never_overrun() -> None:
    pool = make_pool(4)
    pool.reserve(3)
    with pytest.raises(InvariantError, match=r"allocate\(2\) with 1 of 4"):
        pool.reserve(2)


@pytest.mark.parametrize(
    "make_claim", [lambda pool: pool.reserve(5), fragmented_claim], ids=["one run", "runs"]
)
def test_rows_come_back_in_the_order_of_their_tokens(make_claim: object) -> None:
    pool = make_pool()
    claim = make_claim(pool)  # type: ignore[operator]
    pool.write(1, claim, 0, rows(3, first=1))
    pool.write(1, claim, 3, rows(2, first=4))
    assert torch.equal(pool.read(1, claim, 5), rows(5, first=1))
    assert torch.equal(pool.read(1, claim, 2), rows(2, first=1))
    assert not pool.read(0, claim, 5).any(), "the other layer is untouched"


def test_adjacent_slots_are_read_as_a_view_and_scattered_ones_are_not() -> None:
    pool = make_pool()
    assert (
        pool.read(0, pool.reserve(4), 4).untyped_storage().data_ptr()
        == pool.rows.untyped_storage().data_ptr()
    )
    other = make_pool()
    claim = fragmented_claim(other)
    assert claim.start is None
    assert other.read(0, claim, 5).untyped_storage().data_ptr() != other.rows.untyped_storage().data_ptr()


def test_extended_claims_keep_their_first_slots() -> None:
    pool = make_pool()
    claim = pool.reserve(2)
    before = claim.slots.tolist()
    pool.extend(claim, 3)
    assert claim.slots.tolist()[:2] == before
    assert claim.size == len(set(claim.slots.tolist())) == 5


def test_a_row_takes_width_times_element_size_bytes() -> None:
    pool = TokenPool(1, 1, 576, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert pool.row_bytes == 1152


def test_index_keys_append_goes_to_each_claims_newest_token() -> None:
    keys = IndexKeys(make_pool(10))
    claims = [keys.pool.reserve(4), keys.pool.reserve(3)]
    keys.pool.use(claims[0], 2)
    keys.pool.use(claims[1], 1)
    keys.append(1, claims, rows(2))
    assert torch.equal(keys.read(1, claims[0])[1], rows(2)[0])
    assert torch.equal(keys.read(1, claims[1])[0], rows(2)[1])
    assert keys.read(1, claims[0]).shape == (2, 3)


def test_audit_passes_when_the_account_adds_up() -> None:
    pool = make_pool()
    claims = [pool.reserve(3), pool.reserve(4)]
    pool.use(claims[0], 2)
    audit_pool("pool", pool, claims)


def test_audit_finds_a_lost_slot_a_second_owner_and_a_wrong_count() -> None:
    pool = make_pool()
    claims = [pool.reserve(3), pool.reserve(4)]
    with pytest.raises(InvariantError, match="pool: 3 held \\+ 3 free is not the capacity 10"):
        audit_pool("pool", pool, claims[:1])
    with pytest.raises(InvariantError, match="pool: a slot has two owners"):
        audit_pool("pool", pool, [*claims, claims[0]])
    claims[0].num_used += 1
    with pytest.raises(InvariantError, match="0 used, but its owners use another number"):
        audit_pool("pool", pool, claims)
