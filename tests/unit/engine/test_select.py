"""Indexer scores and top-k positions, against the formula written out in float64."""

from __future__ import annotations

import pytest
import torch

from hisparse_engine.ops import select
from hisparse_engine.ops.select import MASKED, index_scores, select_decode, select_prefill, top_positions

HEADS, DIM = 16, 8  # with so many heads no key scores exactly 0, so that nothing ties by accident
INF = float("inf")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def naive_score(query: torch.Tensor, weights: torch.Tensor, key: torch.Tensor) -> float:
    """Σ_h w_h · relu(q_h · k) · dim^-0.5 for one token and one key."""
    total = 0.0
    for head in range(HEADS):
        dot = sum(float(q) * float(k) for q, k in zip(query[head], key, strict=True))
        total += float(weights[head]) * max(dot * DIM**-0.5, 0.0)
    return total


def naive_best(scores: list[float], top_k: int) -> set[int]:
    return set(sorted(range(len(scores)), key=lambda i: -scores[i])[:top_k])


def chosen(row: torch.Tensor) -> set[int]:
    valid = row[row != MASKED].tolist()
    assert len(valid) == len(set(valid)), "a position was selected twice"
    return set(valid)


def test_scores_equal_the_formula() -> None:
    query, weights, keys = random(3, HEADS, DIM), random(3, HEADS), random(11, DIM)
    scores = index_scores(query, weights, keys)
    expected = [[naive_score(q, w, k) for k in keys] for q, w in zip(query, weights, strict=True)]
    torch.testing.assert_close(
        scores.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5
    )


def test_scores_of_bf16_are_computed_in_fp32() -> None:
    query, weights, keys = random(2, HEADS, DIM).bfloat16(), random(2, HEADS), random(9, DIM).bfloat16()
    assert torch.equal(index_scores(query, weights, keys), index_scores(query.float(), weights, keys.float()))


def test_top_positions_leave_out_what_is_no_candidate() -> None:
    scores = torch.tensor([[1.0, -INF, 3.0, 2.0], [-INF, -INF, -5.0, -INF]])
    best = top_positions(scores, 3)
    assert best.dtype == torch.int64
    assert chosen(best[0]) == {0, 2, 3}
    assert chosen(best[1]) == {2}
    assert (best[1] == MASKED).sum() == 2


def test_top_positions_are_never_more_than_there_are_columns() -> None:
    assert top_positions(torch.zeros(2, 3), 16).shape == (2, 3)


@pytest.mark.parametrize("length", [1, 5, 40])
def test_equal_scores_still_select_as_many_as_asked(length: int) -> None:
    assert len(chosen(top_positions(torch.zeros(1, length), 4)[0])) == min(length, 4)


def test_ties_are_settled_as_torch_settles_them() -> None:
    """Which of equal scores wins is not ours to choose: the reference implementation asks torch.topk too."""
    scores = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]])
    assert top_positions(scores, 4).tolist() == scores.topk(4).indices.tolist()


def test_decode_selects_over_each_requests_own_length() -> None:
    lengths = [3, 17, 1, 9]
    query, weights = random(4, HEADS, DIM), random(4, HEADS)
    keys = [random(length, DIM, seed=length) for length in lengths]
    positions = select_decode(query, weights, keys, top_k=6)
    assert positions.shape == (4, 6)
    for i, length in enumerate(lengths):
        scores = [naive_score(query[i], weights[i], key) for key in keys[i]]
        assert chosen(positions[i]) == naive_best(scores, 6)
        assert (positions[i] == MASKED).sum() == max(0, 6 - length)


def test_decode_of_short_sequences_is_as_narrow_as_the_longest() -> None:
    positions = select_decode(
        random(2, HEADS, DIM), random(2, HEADS), [random(2, DIM), random(4, DIM)], top_k=6
    )
    assert positions.shape == (2, 4)
    assert [chosen(row) for row in positions] == [{0, 1}, {0, 1, 2, 3}]


@pytest.mark.parametrize("first", [0, 13])
def test_prefill_selects_among_the_past_and_the_token_itself(first: int) -> None:
    count, top_k = 10, 4
    query, weights, keys = random(count, HEADS, DIM), random(count, HEADS), random(first + count, DIM)
    positions = select_prefill(query, weights, keys, first, top_k, width=first + count)
    for i in range(count):
        scores = [naive_score(query[i], weights[i], key) for key in keys[: first + i + 1]]
        assert chosen(positions[i]) == naive_best(scores, top_k)


def test_prefill_in_chunks_and_in_blocks_selects_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    length, top_k = 20, 4
    query, weights, keys = random(length, HEADS, DIM), random(length, HEADS), random(length, DIM)
    whole = select_prefill(query, weights, keys, 0, top_k, width=length)
    parts = [
        select_prefill(query[start:stop], weights[start:stop], keys[:stop], start, top_k, width=length)
        for start, stop in ((0, 7), (7, 8), (8, 20))
    ]
    assert [chosen(row) for row in torch.cat(parts)] == [chosen(row) for row in whole]
    monkeypatch.setattr(select, "_QUERY_BLOCK_FLOATS", 3 * HEADS * length)
    assert torch.equal(select_prefill(query, weights, keys, 0, top_k, width=length), whole)


def test_prefill_of_a_prompt_shorter_than_top_k_masks_the_rest() -> None:
    positions = select_prefill(random(3, HEADS, DIM), random(3, HEADS), random(3, DIM), 0, 16, width=3)
    assert positions.shape == (3, 3)
    assert [chosen(row) for row in positions] == [{0}, {0, 1}, {0, 1, 2}]
