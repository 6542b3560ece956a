"""The reference ``attend``: against attention written out token by token, and the cases at its edges."""

from __future__ import annotations

import math

import pytest
import torch

from hisparse_engine.ops.reference import attention
from hisparse_engine.ops.reference.attention import attend, dequantise_rows, quantise_rows
from hisparse_engine.ops.tables import NONE

HEADS, LATENT, ROPE, SCALE = 3, 10, 4, 0.31


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def by_hand(query: torch.Tensor, rows: torch.Tensor, slots: list[int]) -> list[list[float]]:
    """One token's attention with Python floats."""
    chosen = [rows[slot].tolist() for slot in slots if slot != NONE]
    result = []
    for head in query.tolist():
        weights = [math.exp(SCALE * sum(q * x for q, x in zip(head, row, strict=True))) for row in chosen]
        result.append(
            [
                sum(w * row[d] for w, row in zip(weights, chosen, strict=True)) / sum(weights)
                for d in range(LATENT)
            ]
        )
    return result


def test_equals_attention_written_out() -> None:
    query, rows = random(3, HEADS, LATENT + ROPE), random(7, LATENT + ROPE)
    slots = torch.tensor([[0, 3, 5, 6], [2, NONE, 1, NONE], [NONE, NONE, NONE, 4]], dtype=torch.int32)
    expected = torch.tensor([by_hand(q, rows, s) for q, s in zip(query, slots.tolist(), strict=True)])
    torch.testing.assert_close(attend(query, rows, slots, scale=SCALE, latent_dim=LATENT), expected)


def test_a_token_without_any_slot_gets_zeros() -> None:
    query, rows = random(2, HEADS, LATENT + ROPE), random(5, LATENT + ROPE)
    slots = torch.tensor([[NONE, NONE], [1, NONE]], dtype=torch.int32)
    out = attend(query, rows, slots, scale=SCALE, latent_dim=LATENT)
    assert torch.equal(out[0], torch.zeros(HEADS, LATENT))
    assert torch.equal(out[1], rows[1, :LATENT].expand(HEADS, LATENT))


def test_what_unselected_rows_hold_does_not_matter() -> None:
    query, rows = random(1, HEADS, LATENT + ROPE), random(5, LATENT + ROPE)
    slots = torch.tensor([[2, NONE, 4]], dtype=torch.int32)
    expected = attend(query, rows, slots, scale=SCALE, latent_dim=LATENT)
    rows[[0, 1, 3]] = float("nan")
    assert torch.equal(attend(query, rows, slots, scale=SCALE, latent_dim=LATENT), expected)


def test_where_a_row_sits_does_not_matter() -> None:
    query, rows = random(2, HEADS, LATENT + ROPE), random(6, LATENT + ROPE)
    slots = torch.tensor([[0, 3, 5], [1, NONE, 4]], dtype=torch.int32)
    moved = torch.tensor([4, 0, 5, 1, 3, 2], dtype=torch.int32)
    pool = torch.empty_like(rows)
    pool[moved.long()] = rows
    there = moved[slots.long()].where(slots != NONE, NONE)
    assert torch.equal(
        attend(query, rows, slots, scale=SCALE, latent_dim=LATENT),
        attend(query, pool, there, scale=SCALE, latent_dim=LATENT),
    )


def test_blocks_of_tokens_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    query, rows = random(5, HEADS, LATENT + ROPE), random(9, LATENT + ROPE)
    slots = torch.randint(0, 9, (5, 4), dtype=torch.int32, generator=torch.Generator().manual_seed(1))
    whole = attend(query, rows, slots, scale=SCALE, latent_dim=LATENT)
    monkeypatch.setattr(attention, "_BLOCK_ELEMENTS", 1)
    torch.testing.assert_close(attend(query, rows, slots, scale=SCALE, latent_dim=LATENT), whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_result_has_the_querys_dtype(dtype: torch.dtype) -> None:
    query, rows = random(2, HEADS, LATENT + ROPE), random(6, LATENT + ROPE)
    slots = torch.tensor([[0, 3, 5], [1, NONE, 4]], dtype=torch.int32)
    out = attend(query.to(dtype), rows.to(dtype), slots, scale=SCALE, latent_dim=LATENT)
    assert out.dtype == dtype
    expected = attend(query, rows, slots, scale=SCALE, latent_dim=LATENT)
    torch.testing.assert_close(out.float(), expected, rtol=2e-2, atol=2e-2)


def test_no_token_and_no_entry() -> None:
    rows = random(6, LATENT + ROPE)
    none = torch.empty((0, 4), dtype=torch.int32)
    assert attend(random(1, HEADS, 14)[:0], rows, none, scale=SCALE, latent_dim=LATENT).shape == (
        0,
        HEADS,
        LATENT,
    )
    width_zero = torch.empty((2, 0), dtype=torch.int32)
    out = attend(random(2, HEADS, 14), rows, width_zero, scale=SCALE, latent_dim=LATENT)
    assert torch.equal(out, torch.zeros(2, HEADS, LATENT))


def test_quantised_rows_have_deepseeks_layout() -> None:
    rows = random(3, 512 + 64)
    rows[1, 128:256] = 0.0
    quantised = quantise_rows(rows, 512)
    assert quantised.shape == (3, 656)
    latent = quantised[:, :512].contiguous().view(torch.float8_e4m3fn).float()
    scales = quantised[:, 512:528].contiguous().view(torch.float32)
    rope = quantised[:, 528:].contiguous().view(torch.bfloat16)
    assert torch.equal(rope, rows[:, 512:].bfloat16())
    assert torch.equal(latent.view(3, 4, 128).abs().amax(dim=2) == 448, scales > 1e-6)
    torch.testing.assert_close(scales[0], rows[0, :512].view(4, 128).abs().amax(dim=1) / 448)


def test_quantised_rows_come_back_within_their_precision() -> None:
    rows = random(3, 512 + 64)
    back = dequantise_rows(quantise_rows(rows, 512), 512).float()
    assert (back - rows).abs().max() < rows.abs().max() / 16
    assert (back - rows).norm() < 0.03 * rows.norm()


def test_attends_quantised_rows_as_what_they_stand_for() -> None:
    query, rows = random(2, HEADS, 512 + 64), quantise_rows(random(6, 512 + 64), 512)
    slots = torch.tensor([[0, 3, 5], [1, NONE, 4]], dtype=torch.int32)
    out = attend(query, rows, slots, scale=0.04, latent_dim=512)
    expected = attend(query, dequantise_rows(rows, 512).float(), slots, scale=0.04, latent_dim=512)
    assert torch.equal(out, expected)
