"""Attend on a CUDA device against the reference in double precision, and what it promises besides: the same bits.

python -m tests.gpu.attend_ops --out FILE [--quick]        --quick: few small cases, for compute-sanitizer
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import triton

from hisparse_engine.ops.gpu.attention import attend
from hisparse_engine.ops.gpu.attention_quantised import quantise_rows
from hisparse_engine.ops.reference import attention as reference
from hisparse_engine.ops.tables import NONE

LARGEST_ERROR = {torch.bfloat16: 5e-3, torch.uint8: 5e-3, torch.float32: 1e-5}
HOLES = ("none", "some", "most", "tail", "all", "mixed")
SHAPES = {  # heads, latent, rope, k
    "deepseek_v3.2": (128, 512, 64, 2048),
    "glm_5": (64, 512, 64, 2048),
    "a_rank_of_8": (16, 512, 64, 2048),
    "a_rank_of_16": (8, 512, 64, 2048),
    "demo": (8, 64, 16, 128),
    "demo_small": (4, 32, 16, 128),
}


@dataclass(frozen=True)
class Case:
    """One comparison: a shape, a batch, how the slots are filled, the rows' type (uint8: quantised)."""

    shape: str
    tokens: int
    holes: str
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True)
class Result:
    """What one case gave."""

    case: str
    error: float
    bound: float
    empty_tokens_zero: bool
    repeat_equal: bool
    moved_equal: bool
    graph_equal: bool

    @property
    def good(self) -> bool:
        same = self.repeat_equal and self.moved_equal and self.graph_equal
        return self.error < self.bound and self.empty_tokens_zero and same


def choose_cases(quick: bool, seed: int) -> list[Case]:
    """Every shape with a few random batches and hole patterns; prefill chunks of the large shapes."""
    if quick:
        return [Case("demo", 3, "mixed"), Case("demo_small", 2, "mixed", torch.float32), Case("a_rank_of_8", 1, "some"), Case("glm_5", 1, "some")]  # fmt: skip
    rng = random.Random(seed)
    cases = [
        Case(shape, rng.choice((1, 2, 3, 5, 8, 17, 33, 70)), holes) for shape in SHAPES for holes in HOLES
    ]
    cases += [
        Case(shape, tokens, "mixed") for shape in ("deepseek_v3.2", "a_rank_of_8") for tokens in (1, 300)
    ]
    cases += [Case(shape, 4, holes, torch.float32) for shape in ("demo", "demo_small") for holes in HOLES]
    cases += [Case(shape, 5, holes, torch.uint8) for shape in ("glm_5", "a_rank_of_8") for holes in HOLES]
    return cases


def fill_slots(tokens: int, k: int, num_rows: int, holes: str, generator: torch.Generator) -> torch.Tensor:
    """int32 ``[tokens, k]``: distinct slots of ``num_rows``, with NONE in the places that ``holes`` names."""
    order = torch.rand(tokens, num_rows, device="cuda", generator=generator).argsort(dim=1)
    slots = order[:, :k].int()
    draw = torch.rand(tokens, k, device="cuda", generator=generator)
    place = torch.arange(k, device="cuda").expand(tokens, k)
    empty = {
        "none": draw < 0,
        "some": draw < 0.2,
        "most": draw < 0.98,
        "tail": place >= (k // 3),
        "all": draw >= 0,
        "mixed": draw < torch.rand(tokens, 1, device="cuda", generator=generator) * 1.2,
    }[holes]
    return slots.masked_fill_(empty, NONE)


def check(case: Case, seed: int) -> Result:
    """Run one case; rows that no slot names are NaN."""
    generator = torch.Generator("cuda").manual_seed(seed)
    heads, latent, rope, k = SHAPES[case.shape]
    num_rows = 2 * k
    compute = torch.float32 if case.dtype == torch.float32 else torch.bfloat16
    query = torch.randn(case.tokens, heads, latent + rope, device="cuda", generator=generator).to(compute)
    rows = torch.randn(num_rows, latent + rope, device="cuda", generator=generator).to(compute)
    slots = fill_slots(case.tokens, k, num_rows, case.holes, generator)
    named = torch.zeros(num_rows, dtype=torch.bool, device="cuda")
    named[slots[slots != NONE].long()] = True
    if case.dtype == torch.uint8:
        rows = quantise_rows(rows, latent)
        rows[~named] = 0x7F  # NaN in e4m3, and no small number in float32 and in bfloat16
    else:
        rows[~named] = float("nan")
    scale = (latent + rope) ** -0.5

    out = attend(query, rows, slots, scale=scale, latent_dim=latent)
    expected = reference.attend(query.double(), rows, slots, scale=scale, latent_dim=latent)
    norm = expected.norm()
    error = (out.double() - expected).norm() / norm if norm > 0 else out.double().norm()
    empty = (slots == NONE).all(dim=1)

    moved = torch.randperm(num_rows, device="cuda", generator=generator)
    pool = torch.empty_like(rows)
    pool[moved] = rows
    there = moved[slots.clamp(min=0).long()].int().masked_fill_(slots == NONE, NONE)

    return Result(
        case=f"{case.shape} {case.tokens} {case.holes} {case.dtype}",
        error=error.item(),
        bound=LARGEST_ERROR[case.dtype],
        empty_tokens_zero=not out[empty].any().item(),
        repeat_equal=torch.equal(attend(query, rows, slots, scale=scale, latent_dim=latent), out),
        moved_equal=torch.equal(attend(query, pool, there, scale=scale, latent_dim=latent), out),
        graph_equal=torch.equal(replay(query, pool, there, scale, latent), out),
    )


def quantises_equal(seed: int) -> bool:
    """Whether rows are quantised to the reference's bytes: random ones, zeros, large and tiny magnitudes."""
    generator = torch.Generator("cuda").manual_seed(seed)
    rows = torch.randn(4096, 576, device="cuda", generator=generator)
    rows *= torch.logspace(-6, 3, len(rows), device="cuda")[:, None]
    rows[::7, :128] = 0.0
    rows = rows.bfloat16()
    return torch.equal(quantise_rows(rows, 512), reference.quantise_rows(rows, 512))


def replay(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, scale: float, latent: int
) -> torch.Tensor:
    """Attend in a CUDA graph captured while the tensors held other things."""
    held = [torch.zeros_like(query), torch.zeros_like(rows), torch.full_like(slots, NONE)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = attend(*held, scale=scale, latent_dim=latent)
    for target, source in zip(held, (query, rows, slots), strict=True):
        target.copy_(source)
    graph.replay()
    return out


def main() -> None:
    """Run all cases, write the results, and fail when one is not good."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cases = choose_cases(arguments.quick, arguments.seed)
    results = [check(case, arguments.seed + i) for i, case in enumerate(cases)]
    quantises = quantises_equal(arguments.seed)
    report = {
        "check": "attend on CUDA equals the reference",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "quantises_to_the_same_bytes": quantises,
        "results": [asdict(result) for result in results],
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    bad = [result for result in results if not result.good]
    print(
        f"{len(results)} cases, {len(bad)} bad; largest error {max(result.error for result in results):.1e}"
    )
    for result in bad:
        print(result)
    if bad or not quantises:
        raise SystemExit(f"{len(bad)} cases are bad; the same bytes when quantised: {quantises}")


if __name__ == "__main__":
    main()
