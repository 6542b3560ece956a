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
from hisparse_engine.ops.reference.attention import dequantise_rows, quantise_rows
from hisparse_engine.ops.tables import NONE

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")

ROOT = Path(__file__).parents[4]
SCALE = 0.3
INTERPRETED = """
import sys
import torch
from hisparse_engine.ops.gpu.attention import attend, attend_tiled, Tiling
from hisparse_engine.ops.gpu.attention_quantised import quantise_rows

for name in sys.argv[1:]:
    case = torch.load(name)
    tensors = case["query"], case["rows"], case["slots"]
    if case["shares"]:
        out = attend_tiled(*tensors, case["scale"], case["latent"], Tiling(16, 16, 4, 2, 1, 3), case["shares"])
    else:
        out = attend(*tensors, scale=case["scale"], latent_dim=case["latent"])
    torch.save(out, name + ".out")
    if case["latent"] % 128 == 0:
        torch.save(quantise_rows(case["unquantised"], case["latent"]), name + ".rows")
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
    "quantised": Case(2, 4, 128, 16, 70, torch.float16, 0),
    "quantised_groups": Case(2, 4, 256, 64, 70, torch.float32, 0),
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
    unquantised = rows.nan_to_num()
    query, rows = query.to(case.dtype), rows.to(case.dtype)
    if case.latent % 128 == 0:
        rows = quantise_rows(unquantised, case.latent)
        rows[unselected] = 0x7F  # NaN in e4m3, and no small number in float32 and in bfloat16
    return {
        "unquantised": unquantised,
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
    query, rows = case["query"].double(), case["rows"]
    rows = rows if rows.dtype == torch.uint8 else rows.double()
    expected = reference(query, rows, case["slots"], scale=SCALE, latent_dim=case["latent"])
    assert out.dtype == case["query"].dtype
    error = (out.double() - expected).norm() / expected.norm()
    if name.startswith("quantised"):  # the interpreter cuts bfloat16 off where a device rounds it
        assert error < 1e-2
    else:
        assert error < (1e-6 if out.dtype == torch.float32 else 1e-3)
    assert torch.equal(out[-1], torch.zeros_like(out[-1]))


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("quantised")])
def test_quantises_as_the_reference_does(folder: Path, name: str) -> None:
    case, rows = torch.load(folder / name), torch.load(folder / f"{name}.rows")
    expected = quantise_rows(case["unquantised"], case["latent"])
    assert rows.shape == expected.shape
    scales = slice(case["latent"], case["latent"] + case["latent"] // 32)
    assert torch.equal(rows[:, scales], expected[:, scales])
    latent = slice(0, case["latent"])  # the interpreter rounds some of them differently, none on a device
    assert (rows[:, latent] == expected[:, latent]).float().mean() > 0.95
    got, wanted = (
        dequantise_rows(some, case["latent"])[:, case["latent"] :].float() for some in (rows, expected)
    )
    torch.testing.assert_close(got, wanted, rtol=2**-7, atol=0.0)
