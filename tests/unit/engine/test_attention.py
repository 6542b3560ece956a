"""Latent attention over selected rows, against attention with keys and values expanded per head."""

from __future__ import annotations

import pytest
import torch

from hisparse_engine.ops import attention
from hisparse_engine.ops.attention import prefill_attention, sparse_attention
from hisparse_engine.ops.select import MASKED

HEADS, LATENT, ROPE, NOPE, VALUE = 3, 10, 4, 6, 5
SCALE = 0.31


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def expanded_attention(
    nope: torch.Tensor, rope: torch.Tensor, rows: torch.Tensor, positions: list[int], up: torch.Tensor
) -> torch.Tensor:
    """One token's MLA as DeepSeek-V2 defines it: every head's keys and values computed from every latent. float64."""
    latent, roped_key = rows[positions, :LATENT].double(), rows[positions, LATENT:].double()
    heads = []
    for head in range(HEADS):
        key_up, value_up = up[head, :NOPE].double(), up[head, NOPE:].double()
        scores = (latent @ key_up.T) @ nope[head].double() + roped_key @ rope[head].double()
        heads.append(torch.softmax(scores * SCALE, dim=0) @ (latent @ value_up.T))
    return torch.stack(heads)


def absorbed_query(nope: torch.Tensor, rope: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return torch.cat((torch.einsum("thn,hnl->thl", nope, up[:, :NOPE]), rope), dim=-1)


def expand_values(latent: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return torch.einsum("thl,hvl->thv", latent, up[:, NOPE:])


def selection(length: int, tokens: int, k: int) -> torch.Tensor:
    """Each token selects some of its past; the early ones have fewer than ``k`` to select."""
    positions = torch.full((tokens, k), MASKED)
    for token in range(tokens):
        past = length - tokens + token + 1
        some = torch.randperm(past, generator=torch.Generator().manual_seed(token))[:k]
        positions[token, k - len(some) :] = some
    return positions


def test_absorbed_attention_equals_expanded_attention() -> None:
    tokens, length = 4, 9
    nope, rope, rows = random(tokens, HEADS, NOPE), random(tokens, HEADS, ROPE), random(length, LATENT + ROPE)
    up = random(HEADS, NOPE + VALUE, LATENT)
    positions = selection(length, tokens, k=7)
    valid = positions != MASKED
    slots = positions.clamp(min=0)
    latent = sparse_attention(
        absorbed_query(nope, rope, up), rows, slots, valid, scale=SCALE, latent_dim=LATENT
    )
    expected = torch.stack(
        [
            expanded_attention(nope[t], rope[t], rows, positions[t][valid[t]].tolist(), up)
            for t in range(tokens)
        ]
    )
    torch.testing.assert_close(expand_values(latent, up).double(), expected, rtol=1e-4, atol=1e-4)


def test_where_a_row_sits_does_not_matter() -> None:
    query, rows = random(2, HEADS, LATENT + ROPE), random(6, LATENT + ROPE)
    positions = torch.tensor([[0, 3, 5], [1, 2, 4]])
    moved = torch.tensor([4, 0, 5, 1, 3, 2])
    pool = torch.empty_like(rows)
    pool[moved] = rows
    valid = torch.ones_like(positions, dtype=torch.bool)
    here = sparse_attention(query, rows, positions, valid, scale=SCALE, latent_dim=LATENT)
    there = sparse_attention(query, pool, moved[positions], valid, scale=SCALE, latent_dim=LATENT)
    assert torch.equal(here, there)


def test_what_an_invalid_entry_points_to_does_not_matter() -> None:
    query, rows = random(1, HEADS, LATENT + ROPE), random(6, LATENT + ROPE)
    valid = torch.tensor([[True, False, True]])
    outputs = [
        sparse_attention(query, rows, torch.tensor([[2, other, 4]]), valid, scale=SCALE, latent_dim=LATENT)
        for other in (0, 5)
    ]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("length", [12, 60], ids=["all rows under a mask", "gathered rows"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_prefill_attends_exactly_the_selected_rows_on_both_paths(length: int, dtype: torch.dtype) -> None:
    tokens, k = 8, 5
    assert (length <= attention._DENSE_FACTOR * k) == (length == 12), "each length takes its own path"
    query, rows = random(tokens, HEADS, LATENT + ROPE).to(dtype), random(length, LATENT + ROPE).to(dtype)
    positions = selection(length, tokens, k)
    got = prefill_attention(query, rows, positions, scale=SCALE, latent_dim=LATENT)
    assert got.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    for token in range(tokens):
        some = rows[positions[token][positions[token] != MASKED]].double()
        weights = torch.softmax(query[token].double() @ some.T * SCALE, dim=-1)
        torch.testing.assert_close(
            got[token].double(), weights @ some[:, :LATENT], rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("length", [12, 60])
def test_prefill_in_blocks_equals_prefill_at_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, rows = random(8, HEADS, LATENT + ROPE), random(length, LATENT + ROPE)
    positions = selection(length, 8, k=5)
    whole = prefill_attention(query, rows, positions, scale=SCALE, latent_dim=LATENT)
    monkeypatch.setattr(attention, "_BLOCK_FLOATS", 200)
    blocks = prefill_attention(query, rows, positions, scale=SCALE, latent_dim=LATENT)
    torch.testing.assert_close(blocks, whole, rtol=1e-6, atol=1e-6)
