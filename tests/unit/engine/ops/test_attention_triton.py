"""The Triton ``attend`` against the reference, under Triton's interpreter: its own process, for the switch is read at import.

The interpreter multiplies no bfloat16, so half precision stands in for it here; tests/gpu has the real thing.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from hisparse_engine.ops.reference.attention import attend as reference
from hisparse_engine.ops.tables import NONE

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")

ROOT = Path(__file__).parents[4]
SCALE = 0.3
INTERPRETED = """
import sys
import torch
from hisparse_engine.ops.gpu.attention import attend, attend_tiled, Tiling

for name in sys.argv[1:]:
    case = torch.load(name)
    tensors = case["query"], case["rows"], case["slots"]
    if case["shares"]:
        out = attend_tiled(*tensors, case["scale"], case["latent"], Tiling(16, 16, 4, 2, 1), case["shares"])
    else:
        out = attend(*tensors, scale=case["scale"], latent_dim=case["latent"])
    torch.save(out, name + ".out")
"""


class Case(NamedTuple):
    tokens: int
    heads: int
    latent: int
    rope: int
    k: int
    dtype: torch.dtype
    shares: int  # 0: what the rules choose


CASES = {
    "demo": Case(3, 4, 32, 16, 128, torch.float32, 0),
    "one_token": Case(1, 8, 64, 16, 128, torch.float32, 0),
    "odd_sizes": Case(2, 3, 10, 4, 7, torch.float32, 0),
    "several_head_blocks": Case(2, 20, 32, 16, 70, torch.float32, 0),
    "many_heads": Case(2, 72, 32, 16, 70, torch.float16, 0),
    "half": Case(2, 8, 32, 16, 128, torch.float16, 0),
    "one_share": Case(2, 4, 32, 16, 128, torch.float32, 1),
    "uneven_shares": Case(2, 4, 32, 16, 100, torch.float32, 3),
    "a_share_a_tile": Case(2, 4, 32, 16, 128, torch.float32, 8),
}


def make(case: Case, seed: int) -> dict[str, object]:
    """Random tensors; the last token has no slot, the first no hole, and rows that nobody selected are poison."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(case.tokens + 2, case.heads, case.latent + case.rope, generator=generator)
    rows = torch.randn(200, case.latent + case.rope, generator=generator)
    slots = torch.randint(NONE, 200, (case.tokens + 2, case.k), dtype=torch.int32, generator=generator)
    slots[0] = slots[0].abs()
    slots[1:, ::3] = NONE
    slots[-1] = NONE
    unselected = torch.ones(200, dtype=torch.bool)
    unselected[slots[slots != NONE].long()] = False
    rows[unselected] = float("nan")
    query, rows = query.to(case.dtype), rows.to(case.dtype)
    return {
        "query": query,
        "rows": rows,
        "slots": slots,
        "scale": SCALE,
        "latent": case.latent,
        "shares": case.shares,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all cases in one interpreted process."""
    folder = tmp_path_factory.mktemp("attend")
    for seed, (name, case) in enumerate(CASES.items()):
        torch.save(make(case, seed), folder / name)
    subprocess.run(
        [sys.executable, "-c", INTERPRETED, *(str(folder / name) for name in CASES)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    return folder


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(folder: Path, name: str) -> None:
    case = torch.load(folder / name)
    out = torch.load(folder / f"{name}.out")
    query, rows = case["query"].double(), case["rows"].double()
    expected = reference(query, rows, case["slots"], scale=SCALE, latent_dim=case["latent"])
    assert out.dtype == case["query"].dtype
    error = (out.double() - expected).norm() / expected.norm()
    assert error < (1e-6 if out.dtype == torch.float32 else 1e-3)
    assert torch.equal(out[-1], torch.zeros_like(out[-1]))
