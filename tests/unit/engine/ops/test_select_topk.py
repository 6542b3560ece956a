"""The top-k kernel's own source, run on the CPU, against the reference; and what stands in where it cannot be built."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import c_void_p

import pytest
import torch

from hisparse_engine.ops.gpu import topk
from hisparse_engine.ops.gpu.build import KernelBuildError
from hisparse_engine.ops.reference.select import take_best
from tests.support import cuda_on_cpu

needs_compiler = pytest.mark.skipif(
    cuda_on_cpu.COMPILER is None, reason="needs g++ to compile the kernels for the CPU"
)
K = 40


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return cuda_on_cpu.build("topk", tmp_path_factory.mktemp("kernels"))


def score_rows(rows: int, width: int) -> Iterator[torch.Tensor]:
    """Yield scores that are hard on a top-k: ties (more than are ranked at once, too), outliers, huge and tiny ranges."""
    normal = torch.randn(rows, width)
    yield normal
    yield torch.relu(normal - 1.5)
    yield torch.randint(-3, 4, (rows, width)).float()
    yield torch.zeros(rows, width)
    yield torch.where(normal > 0, 0.0, -0.0)
    yield -torch.rand(rows, width)
    yield normal.index_fill(1, torch.tensor([width // 2]), 1e30)
    yield torch.exp(20 * normal)
    yield normal * 4e37
    yield normal * 1e-41
    yield torch.where(normal > 0.5, torch.inf, torch.where(normal < -0.5, torch.finfo().min, normal))
    yield torch.full((rows, width), torch.finfo().min)


@needs_compiler
@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("width", [K + 1, 611, 2500])
def test_kernel_takes_the_best_whatever_the_scores(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, width: int, blocks: int
) -> None:
    monkeypatch.setattr(topk, "_stream", lambda device: c_void_p(0))
    torch.manual_seed(width)
    for scores in score_rows(3, width):
        lengths = torch.tensor([width, int(torch.randint(0, width + 1, ())), K + 1], dtype=torch.int32)
        expected = torch.empty(3, K, dtype=torch.int32)
        take_best(scores, lengths, expected)
        out = torch.full_like(expected, -77)
        topk.launch(library, scores, lengths, out, blocks)
        assert torch.equal(out, expected)


@needs_compiler
def test_rows_taken_whole_are_not_read(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk, "_stream", lambda device: c_void_p(0))
    lengths = torch.tensor([0, 7, K], dtype=torch.int32)
    for take in (lambda *a: topk.launch(library, *a, 2), take_best):
        out = torch.full((3, K), -77, dtype=torch.int32)
        take(torch.full((3, K + 9), torch.nan), lengths, out)
        assert [row[row >= 0].tolist() for row in out] == [[], list(range(7)), list(range(K))]
        assert int((out == -1).sum()) == 2 * K - 7


def test_blocks_of_a_row_grow_with_it() -> None:
    lengths = (1, 8192, 8193, 32768, 131072, 200_000)
    assert [topk.blocks_of_a_row(256, n, 132) for n in lengths] == [1, 1, 2, 4, 16, 16]


def test_few_rows_have_more_blocks() -> None:
    assert [topk.blocks_of_a_row(rows, 8192, 132) for rows in (1, 16, 32, 33, 64)] == [4, 4, 2, 2, 1]
    assert [topk.blocks_of_a_row(rows, 32768, 132) for rows in (1, 8, 32)] == [8, 8, 4]


def test_without_a_compiler_tensor_operations_stand_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: str, architecture: str) -> ctypes.CDLL:
        raise KernelBuildError("no nvcc here")

    monkeypatch.setattr(topk, "load", refuse)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    topk._library.cache_clear()
    try:
        out = torch.empty(1, 2, dtype=torch.int32)
        scores = torch.tensor([[1.0, 3.0, 2.0, 9.0]])
        for _ in range(2):
            topk.take_best(scores, torch.tensor([3], dtype=torch.int32), out)
    finally:
        topk._library.cache_clear()
    assert out.tolist() == [[1, 2]]
    assert caplog.text.count("no nvcc here") == 1
