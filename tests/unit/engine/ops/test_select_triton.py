"""The Triton kernels of select against the reference, under Triton's interpreter: its own process, for the switch is read at import.

The interpreter multiplies no bfloat16, so half precision stands in for it here; tests/gpu has the real thing.
"""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from hisparse_engine.ops.reference.select import select, store_index_keys
from hisparse_engine.ops.tables import NONE, IndexKeyRows

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")

ROOT = Path(__file__).parents[4]
K = 24
INTERPRETED = """
import sys
import torch
from triton.runtime import interpreter

patch = interpreter._patch_lang_tensor


def patch_with_bounds(tensor, scope):  # NumPy 2.4 turns no array of one element into the bound of a range
    patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())


interpreter._patch_lang_tensor = patch_with_bounds

from hisparse_engine.ops.gpu.select import Tiling, score_tokens, store_index_keys
from hisparse_engine.ops.tables import IndexKeyRows

for name in sys.argv[1:]:
    case = torch.load(name)
    index = IndexKeyRows(case["stored"], case["scales"])
    store_index_keys(index, case["key_slots"], case["keys"])
    starts = case["starts"].expand(len(case["query"])) if case["group"] > 1 else case["starts"]
    scores = torch.full((len(case["query"]), int(case["lengths"].max())), torch.nan)
    tiling = Tiling(case["group"], 16, 4, 2, 1)
    score_tokens(
        case["query"], case["weights"], index, case["key_slots"], starts, case["lengths"], case["k"], scores, tiling
    )
    torch.save({"scores": scores, "stored": index.keys, "scales": index.scales}, name + ".out")
"""


class Case(NamedTuple):
    """What is drawn; ``starts`` has one element where ``group`` tokens share tiles."""

    dtype: torch.dtype
    heads: int
    dim: int
    lengths: list[int]
    group: int = 1


CASES = [
    Case(torch.float32, 16, 32, [40, 25, 24, 0, 97]),
    Case(torch.float32, 3, 20, [33, 80]),
    Case(torch.float16, 16, 16, [61]),
    Case(torch.float16, 16, 32, [24, 25, 26, 27, 28, 29], group=4),
    Case(torch.float32, 16, 16, [20, 21, 22, 23], group=2),
    Case(torch.float16, 16, 16, list(range(22, 33)), group=8),
    Case(torch.float8_e4m3fn, 16, 32, [50, 16, 33, 3]),
    Case(torch.float8_e4m3fn, 16, 64, [70, 71, 72], group=2),
    Case(torch.float8_e4m3fn, 20, 16, [30, 31]),
]


def tensors(case: Case) -> dict[str, object]:
    """Draw a case: slots in no order, the last position's key stored nowhere."""
    one = case.group > 1
    count = max(case.lengths) if one else sum(case.lengths)
    slots = 2 * count
    fp8 = case.dtype == torch.float8_e4m3fn
    wide = torch.bfloat16 if fp8 else case.dtype
    firsts = [0] if one else [sum(case.lengths[:i]) for i in range(len(case.lengths))]
    magnitudes = torch.tensor([1e-4, 1.0, 50.0])[torch.arange(case.heads) % 3]
    return {
        "stored": torch.zeros(slots, case.dim).to(case.dtype),
        "scales": torch.ones(slots) if fp8 else None,
        "key_slots": torch.tensor(random.sample(range(slots), count), dtype=torch.int32),
        "keys": torch.randn(count, case.dim).to(wide),
        "query": (torch.randn(len(case.lengths), case.heads, case.dim) * magnitudes[:, None]).to(wide),
        "weights": torch.randn(len(case.lengths), case.heads),
        "starts": torch.tensor(firsts, dtype=torch.int64),
        "lengths": torch.tensor(case.lengths, dtype=torch.int32),
        "group": case.group,
        "k": K,
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict, dict]]:
    random.seed(5)
    torch.manual_seed(5)
    drawn = [tensors(case) for case in CASES]
    return list(zip(drawn, interpret(drawn, tmp_path_factory.mktemp("cases")), strict=True))


def interpret(drawn: list[dict], folder: Path) -> list[dict]:
    """Store and score ``drawn`` cases under the interpreter."""
    names = [str(folder / f"{i}.pt") for i in range(len(drawn))]
    for name, case in zip(names, drawn, strict=True):
        torch.save(case, name)
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'metrics'}"}
    command = [sys.executable, "-c", INTERPRETED, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(name + ".out") for name in names]


@pytest.mark.parametrize("i", range(len(CASES)))
def test_scores_are_those_of_the_reference(results: list[tuple[dict, dict]], i: int) -> None:
    case, result = results[i]
    index = IndexKeyRows(result["stored"], result["scales"])
    tokens = len(case["query"])
    starts = case["starts"].expand(tokens)
    expected = torch.full_like(result["scores"], torch.nan)
    out = torch.empty(tokens, K, dtype=torch.int32)
    select(case["query"], case["weights"], index, case["key_slots"], starts, case["lengths"], out, expected)
    largest = int(case["lengths"].max())
    for t, length in enumerate(case["lengths"].tolist()):
        if length > K:
            # the interpreter's rounding to fp8 loses carries: a query's two terms are then a little less than it
            tolerance = 1e-2 if index.scales is not None else 1e-5
            difference = result["scores"][t, :length] - expected[t, :length]
            assert float(difference.norm() / expected[t, :length].norm()) < tolerance
        elif case["group"] == 1 or largest <= K:
            assert bool(result["scores"][t].isnan().all())  # nothing is computed that nothing needs
        assert bool(result["scores"][t, length:].isnan().all())


def test_what_is_no_number_gets_a_score_that_top_k_can_rank(tmp_path: Path) -> None:
    case = tensors(CASES[1])
    case["weights"][0], case["weights"][1, 0] = torch.nan, -torch.inf
    result = interpret([case], tmp_path)[0]["scores"]
    assert bool((result[0, :33] == torch.finfo().min).all())
    assert bool((result[1, :80] >= torch.finfo().min).all())


@pytest.mark.parametrize("i", range(len(CASES)))
def test_keys_are_stored_as_the_reference_stores_them(results: list[tuple[dict, dict]], i: int) -> None:
    case, result = results[i]
    index = IndexKeyRows(case["stored"].clone(), None if case["scales"] is None else case["scales"].clone())
    store_index_keys(index, case["key_slots"], case["keys"])
    different = result["stored"].float() != index.keys.float()
    # the interpreter's rounding to fp8 loses carries, in about one of a hundred components
    assert float(different.float().mean()) <= (0.02 if index.scales is not None else 0.0)
    if index.scales is not None:
        assert torch.equal(result["scales"], index.scales)


def test_a_key_without_a_slot_is_stored_nowhere() -> None:
    stored = torch.zeros(4, 16)
    store_index_keys(IndexKeyRows(stored), torch.tensor([NONE], dtype=torch.int32), torch.ones(1, 16))
    assert float(stored.sum()) == 0.0
