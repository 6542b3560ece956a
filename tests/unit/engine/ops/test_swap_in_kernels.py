"""The CUDA kernels' own source, run on the CPU, against the reference."""

from __future__ import annotations

import ctypes
import random
import re
from ctypes import c_void_p
from pathlib import Path
from typing import cast

import pytest
import torch

from hisparse_engine.ops.gpu import swap_in, swap_in_library
from hisparse_engine.ops.gpu.build import SOURCES
from hisparse_engine.ops.interface import Operations
from hisparse_engine.ops.reference import swap_in as reference
from hisparse_engine.ops.tables import MISSES, NONE, SwapPlan
from tests.support import cuda_on_cpu
from tests.support.swap_in_checks import check_steps, worlds
from tests.support.swap_in_worlds import Batch, Sizes, World

pytestmark = pytest.mark.skipif(
    cuda_on_cpu.COMPILER is None, reason="needs g++ to compile the kernels for the CPU"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return cuda_on_cpu.build("swap_in", tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def ops(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Operations:
    library.hisparse_error.restype = ctypes.c_char_p
    for module in (swap_in, swap_in_library):
        monkeypatch.setattr(module, "library", lambda: library)
    monkeypatch.setattr(swap_in, "stream", lambda: c_void_p(0))
    monkeypatch.setattr(swap_in, "multiprocessors", lambda device: 3)
    return cast(Operations, swap_in)


def test_every_function_that_is_called_is_there() -> None:
    called = set()
    for module in (swap_in, swap_in_library):
        called |= set(re.findall(r"\.(hisparse_\w+)", Path(module.__file__).read_text())) - {
            "hisparse_engine"
        }
    defined = set(re.findall(r"\b(hisparse_\w+)\(", (SOURCES / "swap_in.cu").read_text()))
    assert len(called) == 8
    assert called <= defined


@pytest.mark.parametrize("team", [1, 2, 8])
@pytest.mark.parametrize(("k_most", "growth", "count"), [(9, 3, 6), (120, 3, 3), (40, 16, 2), (700, 3, 1)])
def test_kernels_do_what_the_reference_does(
    ops: Operations, monkeypatch: pytest.MonkeyPatch, k_most: int, growth: int, count: int, team: int
) -> None:
    monkeypatch.setattr(swap_in, "_team", lambda batch: team)
    for rng, sizes in worlds(k_most, count, k_most, growth):
        check_steps(ops, rng, sizes, 5, torch.device("cpu"))


@pytest.mark.parametrize("shape", [(0, 1), (0, 4), (1, 1), (1, 4), (2, 4), (3, 4)])
def test_rows_are_copied_in_whatever_order(
    ops: Operations, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    monkeypatch.setattr(swap_in, "_copy_shape", lambda *_: (*shape, 4, 64))
    for rng, sizes in worlds(7, 3, 90, 3):
        check_steps(ops, rng, sizes, 2, torch.device("cpu"))


@pytest.mark.parametrize(("row_bytes", "count"), [(16, 700), (656, 1500), (1152, 5000)])
def test_many_rows_are_copied_by_ranges(
    ops: Operations, monkeypatch: pytest.MonkeyPatch, row_bytes: int, count: int
) -> None:
    monkeypatch.setattr(swap_in, "_copy_shape", lambda _, units, __: (3, 2 if units < 57 else 4, 4, 64))
    torch.manual_seed(count)
    host = torch.randint(0, 256, (40_000, row_bytes)).byte()
    device = torch.zeros(6_000, row_bytes, dtype=torch.uint8)
    source, target = torch.randperm(40_000)[:count].int(), torch.randperm(6_000)[:count].int()
    target[5] = NONE  # no seat was found
    nothing = torch.empty(0, dtype=torch.int32)
    counted = torch.tensor([count], dtype=torch.int32)
    plan = SwapPlan(torch.empty(64, 0, dtype=torch.int32), nothing, source, target, counted)
    ops.copy_rows(plan, host, device, torch.empty(0, row_bytes, dtype=torch.uint8), None)
    expected = torch.zeros_like(device)
    seated = target != NONE
    expected[target[seated].long()] = host[source[seated].long()]
    assert torch.equal(device, expected)


def misses(ops: Operations, trace: list[torch.Tensor]) -> int:
    """Play a trace of one request's positions; return how many were not resident."""
    world = World.make(Sizes(k=16, buffers=(80,), max_lengths=(600,)), random.Random(1))
    row = torch.zeros(1, dtype=torch.int32)
    for step, positions in enumerate(trace):
        world.hot.now.add_(1)
        length = torch.tensor([150 + step], dtype=torch.int32)
        plan = Batch(row, length, positions, row).empty_plan()
        ops.plan_swap_in(world.tokens, world.hot, 0, 1, row, length, positions, plan)
    return int(world.hot.counts[MISSES])


def test_binned_ages_miss_as_little_as_exact_lru(ops: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_in, "_team", lambda batch: 1)
    rng = random.Random(5)
    trace = []
    for step in range(400):  # a few favourites, a drifting neighbourhood, and anything
        wanted = {int(150 * rng.random() ** 3) for _ in range(8)}
        wanted |= {max(0, 140 + step - rng.randrange(40)) for _ in range(6)}
        wanted.add(rng.randrange(150 + step))
        trace.append(torch.tensor([sorted(wanted) + [NONE] * (16 - len(wanted))], dtype=torch.int32))
    binned, exact = misses(ops, trace), misses(cast(Operations, reference), trace)
    assert exact > 400
    assert abs(binned - exact) <= 0.01 * exact
