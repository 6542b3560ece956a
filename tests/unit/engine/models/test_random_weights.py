"""Random weights: the same from the same seed, fit for a model of the released shapes."""

from __future__ import annotations

import torch

from benchmarks.model_shapes import deepseek_v32_config, glm5_config
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.models.random_weights import RandomWeights
from tests.support.models import tiny_config

CPU = torch.device("cpu")


def test_a_name_and_a_seed_give_the_same_values_in_any_order() -> None:
    one, other = (RandomWeights(7, torch.bfloat16, CPU).at("model") for _ in range(2))
    first, second = one.read("a.weight", 8, 16), one.read("b.weight", 8, 16)
    assert torch.equal(other.read("b.weight", 8, 16), second)
    assert torch.equal(other.read("a.weight", 8, 16), first)
    assert not torch.equal(first, second)
    assert not torch.equal(RandomWeights(8, torch.bfloat16, CPU).at("model").read("a.weight", 8, 16), first)


def test_values_are_those_of_a_bf16_checkpoint_and_scaled() -> None:
    weights = RandomWeights(0, torch.float32, CPU)
    matrix = weights.read("weight", 256, 1024)
    assert torch.equal(matrix, matrix.bfloat16().float())
    assert abs(float(matrix.std()) - 1 / 32) < 1e-3
    assert 0.9 < float(weights.read("norm.weight", 512).mean()) < 1.1
    assert float(weights.read("proj.bias", 512).abs().mean()) < 0.1
    assert weights.read_optional("absent.bias", 4, wanted=False) is None


def test_a_model_of_random_weights_keeps_the_size_of_what_it_computes() -> None:
    class First:
        """Attends the first position only."""

        positions, float8_rows = torch.arange(5), False

        def select(self, _layer: int, query: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return query.new_zeros(len(query), 1, dtype=torch.int64)

        def attend(
            self, _layer: int, query: torch.Tensor, row: torch.Tensor, _: torch.Tensor
        ) -> torch.Tensor:
            return row[:1, None, :32].expand(len(query), query.shape[1], -1)

    model = DsaModel(RandomWeights(0, torch.float32, CPU), tiny_config())
    logits = model.logits(model.forward(torch.arange(5), First()))
    assert not model.capturable
    assert 0.1 < float(logits.std()) < 10


def test_shapes_are_the_released_ones() -> None:
    deepseek, glm = deepseek_v32_config(5, 64), glm5_config(9, indexer_every=4)
    assert (deepseek.num_attention_heads, deepseek.qk_head_dim, deepseek.kv_row_dim) == (128, 192, 576)
    assert (deepseek.index_n_heads, deepseek.n_group, deepseek.n_routed_experts) == (64, 8, 64)
    assert deepseek.mlp_layer_types == ("dense",) * 3 + ("sparse",) * 2
    assert (glm.num_attention_heads, glm.qk_head_dim, glm.v_head_dim, glm.index_n_heads) == (64, 256, 256, 32)
    assert glm.indexer_types == ("full", "full", *("shared",) * 3, "full", *("shared",) * 3)
