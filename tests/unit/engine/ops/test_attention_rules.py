"""The fixed rules of the GPU ``attend``: which tiles, how many shares. No device is needed to ask them."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("triton")

from hisparse_engine.ops.gpu.attention_rules import Device, Tiling, choose_shares, choose_tiling

H200 = Device(132, is_large=True, is_hopper=True)
TILING = Tiling(64, 32, 4, 4, 1, 3)
LARGE = {"width": 576, "latent_dim": 512, "k": 2048}


@pytest.mark.parametrize("tokens", [1, 2, 3, 8, 32, 100, 131])
def test_a_small_batch_is_cut_until_the_device_is_busy(tokens: int) -> None:
    shares = choose_shares(tokens, 64, 2048, TILING, H200)
    tiles = 2048 // TILING.block_entries
    assert 1 <= shares <= 32
    assert tokens * shares > H200.processors / 2 or shares == 32
    turns = math.ceil(tokens * shares / H200.processors)
    assert turns == 1 or turns * math.ceil(tiles / shares) <= tiles


def test_a_large_batch_is_not_cut_for_nothing() -> None:
    assert choose_shares(10 * 132, 64, 2048, TILING, H200) == 1
    assert choose_shares(132, 64, 2048, TILING, H200) == 1


def test_few_entries_bound_the_shares() -> None:
    assert choose_shares(1, 4, 7, TILING, H200) == 1
    assert choose_shares(1, 4, 3 * TILING.block_entries, TILING, H200) <= 3


def test_hopper_kernels_are_taken_where_they_fit() -> None:
    kernels = {
        heads: choose_tiling(heads, dtype=torch.bfloat16, device=H200, **LARGE).kernel
        for heads in (8, 32, 33, 128)
    }
    assert kernels == {8: "hopper_few", 32: "hopper_few", 33: "hopper", 128: "hopper"}


@pytest.mark.parametrize("heads", [16, 64])
def test_the_portable_kernel_is_taken_elsewhere(heads: int) -> None:
    other = Device(108, is_large=False, is_hopper=False)
    assert choose_tiling(heads, dtype=torch.bfloat16, device=other, **LARGE).kernel == "portable"
    assert choose_tiling(heads, dtype=torch.float32, device=H200, **LARGE).kernel == "portable"
    assert choose_tiling(heads, 576, 512, 2047, torch.bfloat16, H200).kernel == "portable"
    assert choose_tiling(heads, 80, 64, 128, torch.bfloat16, H200).kernel == "portable"


def test_large_tiles_need_a_large_device() -> None:
    blackwell = Device(148, is_large=True, is_hopper=False)
    assert choose_tiling(64, dtype=torch.bfloat16, device=blackwell, **LARGE).block_heads == 64
    ampere = Device(108, is_large=False, is_hopper=False)
    assert choose_tiling(64, dtype=torch.bfloat16, device=ampere, **LARGE).block_heads == 16
