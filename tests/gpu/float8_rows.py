"""KV rows in float8 on a CUDA device: the kernel that writes them gives the reference's bytes, and attention reads those.

python -m tests.gpu.float8_rows
"""

from __future__ import annotations

import json
from typing import Any

import torch

from hisparse_engine.ops import reference
from hisparse_engine.ops.gpu.attention import attend
from hisparse_engine.ops.gpu.latents import LatentNorms, split_latents
from hisparse_engine.ops.gpu.rotation import IndexShape
from hisparse_engine.row_format import Float8Rows

SHAPES = [(512, 64), (128, 16), (256, 32)]
TOKENS = (1, 7, 300)
Q_RANK, HEADS, TOP_K, REPEATS = 192, 16, 256, 100
BF16, CUDA = torch.bfloat16, torch.device("cuda")


def latents(kv_rank: int, rope: int, tokens: int, *, float8: bool) -> tuple[torch.Tensor, ...]:
    """Return what ``split_latents`` makes of values of very different sizes, a group of them zeros."""
    torch.manual_seed(kv_rank + tokens)
    projected = torch.randn(tokens, 3, Q_RANK + kv_rank + rope, device=CUDA)
    projected *= torch.logspace(-6, 4, tokens, device=CUDA)[:, None, None]
    projected[:, :, Q_RANK : Q_RANK + 128] *= torch.rand(tokens, 1, 128, device=CUDA) ** 8
    projected[0, :, Q_RANK : Q_RANK + 128] = 0
    angles = torch.rand(tokens, rope // 2, device=CUDA)
    norms = LatentNorms(
        torch.randn(Q_RANK, device=CUDA).to(BF16),
        torch.randn(kv_rank, device=CUDA).to(BF16),
        None,
        None,
        1e-6,
    )
    shape = IndexShape(0, 0, interleaved=False)
    return split_latents(projected, None, angles.cos(), angles.sin(), norms, shape, float8_row=float8)


def written(kv_rank: int, rope: int, tokens: int) -> dict[str, Any]:
    """Count the bytes that differ from the reference's, on the device and on the CPU."""
    stored, plain = (latents(kv_rank, rope, tokens, float8=float8)[1] for float8 in (True, False))
    rows = Float8Rows(kv_rank, rope)
    return {
        "shape": [kv_rank, rope, tokens],
        "bytes": stored.numel(),
        "different": int((stored != rows.store(plain)).sum()),
        "different_from_cpu": int((stored.cpu() != rows.store(plain.cpu())).sum()),
    }


def attended(kv_rank: int, rope: int) -> dict[str, Any]:
    """Return the relative error of the kernel's attention, over rows as they are stored."""
    rows = Float8Rows(kv_rank, rope).store(torch.randn(1000, kv_rank + rope, device=CUDA).to(BF16))
    query = torch.randn(9, HEADS, kv_rank + rope, device=CUDA).to(BF16)
    slots = torch.randint(-1, 1000, (9, TOP_K), dtype=torch.int32, device=CUDA)
    ours = attend(query, rows, slots, scale=0.05, latent_dim=kv_rank).double()
    theirs = reference.attend(query.double(), rows, slots, scale=0.05, latent_dim=kv_rank)
    return {"shape": [kv_rank, rope], "relative_error": float((ours - theirs).norm() / theirs.norm())}


def microseconds(kv_rank: int, rope: int, tokens: int, *, float8: bool) -> float:
    """Return what one writing of rows takes within a graph, with what ``latents`` does besides."""
    latents(kv_rank, rope, tokens, float8=float8)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    projected = torch.randn(tokens, 3, Q_RANK + kv_rank + rope, device=CUDA)
    angles = torch.rand(tokens, rope // 2, device=CUDA)
    norms = LatentNorms(
        torch.ones(Q_RANK, device=CUDA, dtype=BF16),
        torch.ones(kv_rank, device=CUDA, dtype=BF16),
        None,
        None,
        1e-6,
    )
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            split_latents(
                projected, None, angles, angles, norms, IndexShape(0, 0, interleaved=False), float8_row=float8
            )
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    graph.replay()
    start.record()
    graph.replay()
    stop.record()
    stop.synchronize()
    return round(1000 * float(start.elapsed_time(stop)) / REPEATS, 3)


def main() -> None:
    """Check and time; print JSON."""
    print(
        json.dumps(
            {
                "written": [written(*shape, tokens) for shape in SHAPES for tokens in TOKENS],
                "attended": [attended(*shape) for shape in SHAPES],
                "microseconds_of_a_writing": [
                    {
                        "tokens": tokens,
                        "float8": microseconds(512, 64, tokens, float8=True),
                        "bf16": microseconds(512, 64, tokens, float8=False),
                    }
                    for tokens in (1, 64, 512)
                ],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
