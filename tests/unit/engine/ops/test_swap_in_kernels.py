"""The CUDA kernels' own source, run on the CPU, against the reference."""

from __future__ import annotations

import ctypes
from ctypes import c_void_p
from typing import cast

import pytest
import torch

from hisparse_engine.ops.gpu import swap_in
from hisparse_engine.ops.interface import Operations
from tests.support import cuda_on_cpu
from tests.support.swap_in_checks import check_steps, worlds

pytestmark = pytest.mark.skipif(
    cuda_on_cpu.COMPILER is None, reason="needs g++ to compile the kernels for the CPU"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return cuda_on_cpu.build("swap_in", tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def ops(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Operations:
    library.hisparse_error.restype = ctypes.c_char_p
    monkeypatch.setattr(swap_in, "_library", lambda: library)
    monkeypatch.setattr(swap_in, "_stream", lambda: c_void_p(0))
    monkeypatch.setattr(swap_in, "_multiprocessors", lambda device: 3)
    return cast(Operations, swap_in)


@pytest.mark.parametrize(("k_most", "growth", "count"), [(9, 3, 12), (120, 3, 6), (40, 16, 3), (700, 3, 1)])
def test_kernels_do_what_the_reference_does(ops: Operations, k_most: int, growth: int, count: int) -> None:
    for rng, sizes in worlds(k_most, count, k_most, growth):
        check_steps(ops, rng, sizes, 5, torch.device("cpu"))
