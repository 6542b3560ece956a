"""The select reference against a definition in loops, and index keys as they are stored."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hisparse_engine.ops.reference.select import FP8_MAX, select, store_index_keys, take_best
from hisparse_engine.ops.tables import NONE, IndexKeyRows

SLOTS, DIM, HEADS = 64, 16, 4


def make_index(dtype: torch.dtype) -> IndexKeyRows:
    if dtype == torch.float8_e4m3fn:
        return IndexKeyRows(torch.zeros(SLOTS, DIM).to(dtype), torch.ones(SLOTS))
    return IndexKeyRows(torch.zeros(SLOTS, DIM, dtype=dtype))


def stored(index: IndexKeyRows) -> torch.Tensor:
    keys = index.keys.float()
    return keys if index.scales is None else keys * index.scales.unsqueeze(1)


def best_by_definition(scores: list[float], k: int) -> list[int]:
    order = sorted(range(len(scores)), key=lambda p: (-scores[p], p))[:k]
    return sorted(order) + [NONE] * (k - len(order))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_best_positions_are_exact_with_ties_to_the_smaller(data: st.DataObject) -> None:
    tokens, k = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    width = data.draw(st.integers(1, 20))
    lengths = data.draw(st.lists(st.integers(0, width), min_size=tokens, max_size=tokens))
    values = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1.0, 3e8])
    rows = [data.draw(st.lists(values, min_size=width, max_size=width)) for _ in lengths]
    out = torch.full((tokens, k), 77, dtype=torch.int32)
    take_best(torch.tensor(rows), torch.tensor(lengths, dtype=torch.int32), out)
    assert out.tolist() == [
        best_by_definition(row[:length], k) for row, length in zip(rows, lengths, strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_select_scores_the_keys_that_its_slots_name(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    index, k = make_index(dtype), 5
    key_slots = torch.tensor(random.Random(4).sample(range(SLOTS), 50), dtype=torch.int32)
    store_index_keys(index, key_slots, torch.randn(50, DIM))
    starts = torch.tensor([30, 0, 0, 0, 7], dtype=torch.int64)
    lengths = torch.tensor([20, 17, 18, 0, 4], dtype=torch.int32)
    query, weights = torch.randn(5, HEADS, DIM), torch.randn(5, HEADS)
    out, scores = torch.empty(5, k, dtype=torch.int32), torch.empty(5, 20)
    select(query, weights, index, key_slots, starts, lengths, out, scores)
    for t, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        keys = stored(index)[key_slots[start : start + length].long()]
        expected = [float((weights[t] * torch.relu(query[t] @ key)).sum()) * DIM**-0.5 for key in keys]
        torch.testing.assert_close(scores[t, :length], torch.tensor(expected))
        assert out[t].tolist() == best_by_definition(scores[t, :length].tolist(), k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_are_stored_in_their_dtype_and_none_goes_nowhere(dtype: torch.dtype) -> None:
    index = make_index(dtype)
    keys = torch.randn(3, DIM)
    store_index_keys(index, torch.tensor([9, NONE, 2], dtype=torch.int32), keys)
    assert torch.equal(index.keys[9], keys[0].to(dtype))
    assert torch.equal(index.keys[2], keys[2].to(dtype))
    assert int(index.keys.float().abs().sum(dim=1).count_nonzero()) == 2


def test_fp8_keys_fill_the_range_and_zeros_stay_zeros() -> None:
    index = make_index(torch.float8_e4m3fn)
    assert index.scales is not None
    keys = torch.randn(4, DIM) * torch.tensor([[1e-6], [1.0], [1e6], [0.0]])
    store_index_keys(index, torch.tensor([5, 6, 7, 8], dtype=torch.int32), keys)
    assert index.keys[5:8].float().abs().amax(dim=1).tolist() == [FP8_MAX] * 3
    assert stored(index)[8].tolist() == [0.0] * DIM
    error = (stored(index)[5:9] - keys).abs().amax(dim=1)
    assert bool((error <= keys.abs().amax(dim=1) / 16).all())  # 3 mantissa bits, rounded
    assert torch.equal(index.scales[5:8], keys[:3].abs().amax(dim=1) / FP8_MAX)
