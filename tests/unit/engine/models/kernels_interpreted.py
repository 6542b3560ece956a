"""The model's Triton kernels on CPU tensors, for a process with TRITON_INTERPRET=1: see ``test_model_kernels_triton``.

The interpreter knows no bfloat16 products; float16 shows the same rounding points.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from hisparse_engine.models import cuda_dsa, cuda_linear
from hisparse_engine.models.dsa import PlainDecoder
from hisparse_engine.models.random_weights import RandomWeights
from hisparse_engine.ops.float8_rows import packed_bytes
from hisparse_engine.ops.gpu.activation import silu_mul
from hisparse_engine.ops.gpu.expert_tiles import sort_by_expert
from hisparse_engine.ops.gpu.experts import TileShape, down, gated_up
from hisparse_engine.ops.gpu.latents import LatentNorms, split_latents
from hisparse_engine.ops.gpu.norm import add_rms_norm
from hisparse_engine.ops.gpu.rotation import IndexShape, rotate_queries
from hisparse_engine.ops.gpu.routing import Routing, route
from hisparse_engine.ops.gpu.skinny import skinny_linear, split_linear
from hisparse_engine.row_format import Float8Rows
from tests.support import plain_layers
from tests.support.models import tiny_config

HALF, FULL = torch.float16, torch.float32
TOLERANCE = {HALF: 2e-3, FULL: 1e-5}
EPS = 1e-6


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def assert_near(ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        tolerance = TOLERANCE[one.dtype]
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", [HALF, FULL], ids=str)
@pytest.mark.parametrize("hidden", [64, 96])
@pytest.mark.parametrize("terms", [0, 1, 3])
def test_residual_sum_and_norm(terms: int, hidden: int, kind: torch.dtype) -> None:
    x, weight = torch.randn(5, hidden, dtype=kind), torch.randn(hidden, dtype=kind)
    values = torch.randn(5, terms, hidden, dtype=kind) if terms else None
    for factors in (None, torch.rand(5, terms)) if terms else (None,):
        ours = add_rms_norm(x, values, factors, weight, EPS)
        assert_near(ours, plain_layers.add_rms_norm(x, values, factors, weight, EPS))


@pytest.mark.parametrize("kind", [HALF, FULL], ids=str)
@pytest.mark.parametrize("width", [32, 1500])
def test_silu_mul(width: int, kind: torch.dtype) -> None:
    gate_up = torch.randn(3, 2 * width, dtype=kind)
    assert_near((silu_mul(gate_up),), (plain_layers.silu_mul(gate_up),))


ROUTINGS = {
    "one group": Routing(8, 1, 1, 2, 1, True, 2.5),
    "two groups of four": Routing(16, 4, 2, 4, 0, True, 2.5),
    "weights as they are": Routing(16, 2, 1, 3, 2, False, 1.5),
    "no power of two": Routing(15, 3, 2, 5, 1, True, 1.0),
}


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("routing", ROUTINGS.values(), ids=ROUTINGS.keys())
def test_routing(routing: Routing, parts: int) -> None:
    logits = torch.randn(20, 2, parts * routing.num_experts)
    bias = 0.3 * torch.randn(routing.num_experts)
    experts, weights = route(logits, bias, routing)
    expected, expected_weights = plain_layers.route(logits, bias, routing)
    assert torch.equal(experts.sort(dim=1).values, expected.sort(dim=1).values)
    assert_near(
        (weights.gather(1, experts.argsort(dim=1)),), (expected_weights.gather(1, expected.argsort(dim=1)),)
    )


def test_routing_prefers_the_smaller_of_equal_experts() -> None:
    experts, _ = route(torch.zeros(2, 1, 16), torch.zeros(16), Routing(16, 4, 2, 5, 0, True, 1.0))
    assert experts.tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("rows", [16, 32])
@pytest.mark.parametrize(("tokens", "choices", "num_experts"), [(1, 3, 5), (13, 3, 8), (40, 2, 3)])
def test_tiles_hold_every_pair_once_in_order_of_experts(
    tokens: int, choices: int, num_experts: int, rows: int
) -> None:
    experts = torch.rand(tokens, num_experts).argsort(dim=1)[:, :choices].int()
    tiles = sort_by_expert(experts, num_experts, rows)
    flat = experts.flatten()
    assert torch.equal(tiles.pairs.long(), flat.argsort(stable=True))
    covered = []
    for expert, first, count in zip(
        tiles.expert.tolist(), tiles.first.tolist(), tiles.rows.tolist(), strict=True
    ):
        if expert >= 0:
            assert 0 < count <= rows
            part = tiles.pairs[first : first + count].long()
            assert (flat[part] == expert).all()
            covered += part.tolist()
    assert covered == tiles.pairs.tolist()


def test_more_choices_than_one_block_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hisparse_engine.ops.gpu.expert_tiles._SORT_BLOCKS", (32, 64))
    experts = torch.randint(0, 7, (75, 3), dtype=torch.int32)
    tiles = sort_by_expert(experts, 7, 16)
    assert torch.equal(tiles.pairs.long(), experts.flatten().argsort(stable=True))
    assert sum(count for e, count in zip(tiles.expert, tiles.rows, strict=True) if e >= 0) == 225


@pytest.mark.parametrize("kind", [HALF, FULL], ids=str)
@pytest.mark.parametrize(("hidden", "width"), [(64, 32), (80, 48)], ids=["whole tiles", "ragged tiles"])
def test_grouped_products(hidden: int, width: int, kind: torch.dtype) -> None:
    tokens, choices, num_experts = 21, 3, 6
    x = torch.randn(tokens, hidden, dtype=kind)
    gate_up = 0.2 * torch.randn(num_experts, 2 * width, hidden, dtype=kind)
    down_weight = 0.2 * torch.randn(num_experts, hidden, width, dtype=kind)
    experts = torch.rand(tokens, num_experts).argsort(dim=1)[:, :choices].int()
    experts[:, 0] = 2  # more rows than a tile has
    tiles, shape = sort_by_expert(experts, num_experts, 16), TileShape(32, 32, 4, 2)
    ours = down(gated_up(x, gate_up, tiles, shape), down_weight, tiles, shape)
    theirs = plain_layers.expert_outputs(x, gate_up, down_weight, experts).to(kind)
    assert_near((ours,), (theirs,))


@pytest.mark.parametrize("kind", [HALF, FULL], ids=str)
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 512, 64), (13, 600, 40)])
def test_skinny_products(rows: int, depth: int, columns: int, kind: torch.dtype) -> None:
    x, weight = torch.randn(rows, depth, dtype=kind), torch.randn(columns, depth, dtype=kind) * depth**-0.5
    expected = x.float() @ weight.float().T
    for splits in (1, 2, 5):  # 5: more than there is depth for
        partial = split_linear(x, weight, splits)
        assert partial.shape == (rows, splits, columns)
        assert_near((partial.sum(dim=1),), (expected,))
    assert_near((skinny_linear(x, weight),), (expected.to(kind),))


@pytest.mark.parametrize("kind", [HALF, FULL], ids=str)
@pytest.mark.parametrize("interleaved", [True, False], ids=["interleaved", "half split"])
@pytest.mark.parametrize("parts", [0, 1, 3], ids=["no indexer", "one part", "three parts"])
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
def test_split_latents(biased: bool, parts: int, interleaved: bool, kind: torch.dtype) -> None:
    tokens, q_rank, kv_rank, rope = 3, 24, 32, 16
    index = IndexShape(4, 20, interleaved) if parts else IndexShape(0, 0, interleaved=False)
    own = q_rank + kv_rank + rope
    projected = torch.randn(tokens, 2, own + index.dim + parts * index.heads)
    bias = torch.randn(own) if biased else None
    angles = torch.rand(tokens, rope // 2)
    norms = LatentNorms(torch.randn(q_rank, dtype=kind), torch.randn(kv_rank, dtype=kind), None, None, EPS)
    if parts:
        norms = dataclasses.replace(
            norms, key=torch.randn(index.dim, dtype=kind), key_bias=torch.randn(index.dim, dtype=kind)
        )
    args = (projected, bias, angles.cos(), angles.sin(), norms, index)
    assert_near(split_latents(*args), plain_layers.split_latents(*args))


@pytest.mark.parametrize("kind", [HALF, FULL], ids=str)
@pytest.mark.parametrize(("kv_rank", "rope"), [(128, 16), (384, 10), (512, 64)])
def test_a_row_in_float8_is_the_row_quantised(kv_rank: int, rope: int, kind: torch.dtype) -> None:
    tokens, q_rank, rows = 5, 24, Float8Rows(kv_rank, rope)
    projected = torch.randn(tokens, 2, q_rank + kv_rank + rope) * 4
    projected[0, :, q_rank : q_rank + 128] = 0  # a group of zeros
    angles = torch.rand(tokens, rope // 2)
    norms = LatentNorms(torch.randn(q_rank, dtype=kind), torch.randn(kv_rank, dtype=kind), None, None, EPS)
    args = (projected, None, angles.cos(), angles.sin(), norms, IndexShape(0, 0, interleaved=False))
    (q_latent, row, *rest), (q_plain, plain, *same) = (
        split_latents(*args, float8_row=float8) for float8 in (True, False)
    )
    expected, packed = rows.store(plain), packed_bytes(kv_rank, rope)
    assert (row.shape, row.dtype) == (expected.shape, torch.uint8)
    scales = slice(kv_rank, kv_rank + kv_rank // 32)
    assert torch.equal(row[:, scales], expected[:, scales])
    same_latents = row[:, :kv_rank] == expected[:, :kv_rank]  # the interpreter loses some carries of e4m3
    assert same_latents.float().mean() > 0.95
    got, wanted = (rows.load(some, FULL) for some in (row, expected))
    assert not got[0, :128].any()
    torch.testing.assert_close(got[:, kv_rank:], wanted[:, kv_rank:], rtol=2**-7, atol=0.0)
    assert not row[:, packed:].any()
    assert_near((q_latent, *rest), (q_plain, *same))


@pytest.mark.parametrize("kind", [HALF, FULL], ids=str)
@pytest.mark.parametrize("interleaved", [True, False], ids=["interleaved", "half split"])
@pytest.mark.parametrize("index_heads", [0, 3])
def test_rotate_queries(index_heads: int, interleaved: bool, kind: torch.dtype) -> None:
    tokens, heads, nope, rope, kv_rank = 3, 5, 24, 16, 32
    index = IndexShape(index_heads, 20 if index_heads else 0, interleaved)
    up = torch.randn(tokens, heads * (nope + rope) + index.heads * index.dim, dtype=kind)
    angles = torch.rand(tokens, rope // 2)
    ours, theirs = (torch.ones(tokens, heads, kv_rank + rope, dtype=kind) for _ in range(2))
    index_query = rotate_queries(up, ours, angles.cos(), angles.sin(), index)
    expected = plain_layers.rotate_queries(up, theirs, angles.cos(), angles.sin(), index)
    assert_near((ours, index_query), (theirs, expected))
    assert (ours[..., :kv_rank] == 1).all()


def test_fp32_weights_are_the_sum_of_their_parts() -> None:
    wide = torch.randn(64, 64) * torch.rand(64, 1).mul(20).exp2()
    parts = cuda_linear.bf16_parts(wide)
    assert len(parts) == 3
    assert torch.equal(sum(part.double() for part in parts), wide.double())
    assert [part.shape for part in cuda_linear.bf16_parts(wide.bfloat16().float())] == [wide.shape]


@torch.inference_mode()
@pytest.mark.parametrize(
    "keys",
    [
        {"n_shared_experts": 2, "n_group": 4, "topk_group": 2},
        {"attention_bias": True, "indexer_types": ["full", "shared", "full"]},
        {"architectures": ["DeepseekV32ForCausalLM"], "num_experts_per_tok": 3},
    ],
    ids=["groups and shared experts", "bias and shared indexer", "half split"],
)
@pytest.mark.parametrize("few", [2, 16], ids=["many rows", "few rows"])
def test_the_whole_decoder(few: int, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def mm(x: torch.Tensor, weight: torch.Tensor, out_dtype: torch.dtype) -> torch.Tensor:
        return x.to(out_dtype) @ weight.to(out_dtype)

    monkeypatch.setattr(torch, "mm", mm)  # cuBLAS alone returns another dtype than it is given
    monkeypatch.setattr(cuda_linear, "MAX_ROWS", few)
    config, tokens = tiny_config(**keys), 5
    weights = RandomWeights(0, FULL, torch.device("cpu"))
    x, angles = torch.randn(tokens, config.hidden_size), torch.rand(tokens, config.qk_rope_head_dim // 2)
    outputs, seen = [], []
    for decoder in (PlainDecoder(weights, config), cuda_dsa.FusedDecoder(weights, config)):
        cache = RecordingPass(config.kv_lora_rank)
        hidden = decoder(x.clone(), (angles.cos(), angles.sin()), cache)
        outputs.append((hidden, decoder.normed(hidden)))
        seen.append(cache.seen)
    assert len(seen[0]) == len(seen[1]) > config.num_hidden_layers
    for one, other in zip(seen[1], seen[0], strict=True):
        assert_near(one, other)
    assert_near(outputs[1], outputs[0])


class RecordingPass:
    """Keeps what it is given, and mixes queries and rows into something of the right shape."""

    positions, float8_rows = torch.zeros(0), False

    def __init__(self, latent_dim: int) -> None:
        self._latent_dim = latent_dim
        self.seen: list[tuple[torch.Tensor, ...]] = []

    def select(self, _layer: int, *tensors: torch.Tensor) -> torch.Tensor:
        self.seen.append(tensors)
        return torch.zeros(len(tensors[0]), 1, dtype=torch.int32)

    def attend(
        self, _layer: int, query: torch.Tensor, row: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        assert positions.dtype == torch.int32
        self.seen.append((query, row))
        return torch.tanh(query + row.unsqueeze(1))[..., : self._latent_dim]
