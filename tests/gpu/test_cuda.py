"""On a GPU, swapping rows in and out must not change one bit of what the model says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint
from tests.gpu import float8_rows
from tests.gpu.equivalence import CASES, Case, compare
from tests.gpu.late_copies import check

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; this machine has none"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hierarchical_equals_resident_bit_for_bit(tmp_path: Path, case: Case) -> None:
    result = compare(case, tmp_path)
    assert result.swap_in_misses > 0
    assert (result.logits_different, result.tokens_equal, result.verify_mismatches) == (0, True, 0)
    assert result.verify_checks > 0
    assert result.decoder == ("TableDecoder" if case.kernels == "auto" else "EagerDecoder")


@pytest.mark.parametrize("profile", [False, True])
def test_nothing_depends_on_when_copies_run(tmp_path: Path, profile: bool) -> None:
    result = check(ensure_demo_checkpoint(tmp_path), profile=profile)
    assert result["swap_in_misses"] > 0
    assert (result["launches_different"], result["tokens_equal"], result["verify_mismatches"]) == (0, True, 0)


@pytest.mark.parametrize("tokens", float8_rows.TOKENS)
@pytest.mark.parametrize("shape", float8_rows.SHAPES)
def test_rows_in_float8_are_the_references_bytes(shape: tuple[int, int], tokens: int) -> None:
    result = float8_rows.written(*shape, tokens)
    assert (result["different"], result["different_from_cpu"]) == (0, 0)
    assert float8_rows.attended(*shape)["relative_error"] < 5e-3
