"""The locality model's Triton kernel, interpreted on the CPU, selects exactly what the model in torch does."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECK = """
import torch
from benchmarks.decode_locality import Locality
from benchmarks.decode_locality_kernel import write_positions
compared = 0
for locality in (Locality(top_k=64, window=8, turnover=0.3), Locality(top_k=2048, turnover=0.07, skew=3, seed=9)):
    for context in (30, 5000, 131072):
        starts = torch.tensor([0, 7000, 2**31 + 5, 3], dtype=torch.int64)
        lengths = torch.tensor([context + 1, context + 40, context + 500, 0], dtype=torch.int32)
        for group, past in ((0, 0), (2, 0), (1, 300)):
            expected = locality.positions(starts.int(), torch.full_like(lengths, context), lengths, group + 1, past)
            out = torch.full((4, locality.top_k), -9, dtype=torch.int32)
            write_positions(locality, starts, lengths, out, context=context, group=group, past=past)
            assert torch.equal(out, expected[group]), (locality, context, group, past)
            compared += 1
print(compared)
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernel_equals_the_model() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'metrics'}"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHECK], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "18"
