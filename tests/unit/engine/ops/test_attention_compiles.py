"""The Hopper kernels, which Triton's interpreter cannot run, compiled ahead for the device that they are for.

That needs no device. What they compute is checked on one: ``tests/gpu/attend_ops.py``.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

triton = pytest.importorskip("triton")
if not triton.__version__.startswith("3.6."):
    pytest.skip("the kernels are for Triton 3.6's Gluon", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.experimental.gluon._runtime import GluonASTSource  # noqa: E402

SHARED_BYTES = 227 * 1024  # that a block may have on Hopper
POINTERS = {"query": "*bf16", "rows": "*bf16", "slots": "*i32", "sums": "*fp32"}
SHAPE = {"K": 2048, "LATENT": 512}
KERNELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "many_heads": (
        "attention_hopper",
        "attend_share_hopper",
        {"WIDTH": 576, "BLOCK_H": 64, "BLOCK_N": 32, "BUFFERS": 4, "WEIGHT_BUFFERS": 2},
    ),
    "few_heads": (
        "attention_hopper_few",
        "attend_share_few",
        {"WIDTH": 576, "BLOCK_H": 16, "BLOCK_N": 64, "BUFFERS": 2},
    ),
}


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_compiles_for_hopper_and_fits(name: str, split: bool) -> None:
    module, kernel, blocks = KERNELS[name]
    constants = {**SHAPE, **blocks, "HEADS": 72 if name == "many_heads" else 12, "SPLIT": split}
    signature = {
        **POINTERS,
        "out": "*fp32" if split else "*bf16",
        "scale": "fp32",
        "shares": "i32",
        "share_tiles": "i32",
        **dict.fromkeys(constants, "constexpr"),
    }
    function = getattr(importlib.import_module(f"hisparse_engine.ops.gpu.{module}"), kernel)
    ordered = {argument: signature[argument] for argument in function.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(ordered)
        if ordered[argument].startswith("*")
    }
    source = GluonASTSource(function, signature=ordered, constexprs=constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert compiled.metadata.shared <= SHARED_BYTES
    assert "wgmma.mma_async" in compiled.asm["ptx"]
    assert "cp.async.cg.shared.global" in compiled.asm["ptx"]
    assert "cp.async.ca" not in compiled.asm["ptx"]  # 16 bytes a copy
