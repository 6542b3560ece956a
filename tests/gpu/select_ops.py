"""``select`` and ``store_index_keys`` on a CUDA device against the reference, over random shapes.

python -m tests.gpu.select_ops --out benchmarks/results/gpu_select.json [--quick]

Scores are compared with the reference's; the selection with the exact top-k of the very scores that the GPU computed.
``--quick`` is for compute-sanitizer.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import traceback
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from hisparse_engine.ops.gpu.select import select, store_index_keys
from hisparse_engine.ops.gpu.topk import MOST_SCORES_A_BLOCK, _library, launch
from hisparse_engine.ops.reference.select import select as reference_select
from hisparse_engine.ops.reference.select import store_index_keys as reference_store
from hisparse_engine.ops.reference.select import take_best
from hisparse_engine.ops.tables import NONE, IndexKeyRows
from tests.gpu.select_cases import Inputs, Shape, cases, make_inputs, moved, score_rows

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float8_e4m3fn: 2e-3}
"""‖scores - reference‖ / ‖reference‖. Products are exact and summed in fp32; the matrix units sum fp8's with fewer bits."""


@dataclass(frozen=True)
class Outcome:
    """What a case gave."""

    shape: str
    error: float
    overlap: float
    """Least share of a token's selection that the reference's own selection has too."""
    failures: tuple[str, ...]


def check(shape: Shape) -> Outcome:
    """Run a case twice, on moved keys, and against the reference."""
    inputs, width, failures = make_inputs(shape), max(*shape.lengths, 4), []
    out, scores = inputs.run(shape.k, width)
    expected_out, expected = torch.empty_like(out), torch.zeros_like(scores)
    reference_select(
        inputs.query,
        inputs.weights,
        inputs.index,
        inputs.key_slots,
        inputs.starts,
        inputs.lengths,
        expected_out,
        expected,
    )
    column = torch.arange(width, device="cuda")
    scored = (column < inputs.lengths[:, None]) & (inputs.lengths > shape.k)[:, None]
    got, wanted = scores[scored].double(), expected[scored].double()
    error = float((got - wanted).norm() / wanted.norm().clamp(min=1e-30)) if len(wanted) else 0.0
    if not error <= TOLERANCE[shape.keys]:
        failures.append(f"scores differ by {error:.1e}")
    if bool((~scores[column >= inputs.lengths[:, None]].isnan()).any()):
        failures.append("scores beyond a length are written")
    exact = torch.empty_like(out)
    take_best(torch.where(scored, scores, 0.0), inputs.lengths, exact)
    if not torch.equal(out, exact):
        failures.append("not the exact top-k of the scores")
    if not torch.equal(out, inputs.run(shape.k, width)[0]):
        failures.append("a second run differs")
    moved_out, moved_scores = moved(inputs).run(shape.k, width)
    if not torch.equal(out, moved_out) or not torch.equal(scores[scored], moved_scores[scored]):
        failures.append("moved keys give other bits")
    if not alone_is_the_same(inputs, shape, out, width):
        failures.append("a token alone gives other bits")
    return Outcome(str(shape), error, overlap(out, expected_out), tuple(failures))


def alone_is_the_same(inputs: Inputs, shape: Shape, out: torch.Tensor, width: int) -> bool:
    """Whether one token of a batch, selected for alone, gets the same positions."""
    if shape.one_request:
        return True  # a chunk's tokens share tiles: another kernel, the sums of other shapes
    t = random.randrange(len(shape.lengths))
    part = slice(t, t + 1)
    alone = replace(
        inputs,
        query=inputs.query[part],
        weights=inputs.weights[part],
        starts=inputs.starts[part],
        lengths=inputs.lengths[part],
    )
    return torch.equal(alone.run(shape.k, width)[0], out[part])


def overlap(out: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the least share of a row of ``out`` that is in ``expected``."""
    shares = [1.0]
    for mine, theirs in zip(out.tolist(), expected.tolist(), strict=True):
        wanted = set(theirs) - {NONE}
        if wanted:
            shares.append(len(wanted & set(mine)) / len(wanted))
    return min(shares)


def check_store(dtype: torch.dtype, dim: int) -> list[str]:
    """Compare stored keys bit for bit with the reference's, NONE slots and all."""
    fp8, failures = dtype == torch.float8_e4m3fn, []
    for source in (torch.bfloat16, torch.float32):
        keys = torch.randn(333, dim, device="cuda") * 10 ** torch.empty(333, 1, device="cuda").uniform_(
            -20, 20
        )
        keys[7] = 0
        slots = torch.randperm(1000, device="cuda")[:333].int()
        slots[::5] = NONE
        results = []
        for store in (store_index_keys, reference_store):
            index = IndexKeyRows(
                torch.zeros(1000, dim, device="cuda").to(dtype),
                torch.ones(1000, device="cuda") if fp8 else None,
            )
            store(index, slots, keys.to(source))
            results.append(index)
        if not torch.equal(results[0].keys.view(torch.uint8), results[1].keys.view(torch.uint8)):
            failures.append(f"{dtype} {dim} from {source}: other keys")
        if fp8 and not torch.equal(results[0].scales, results[1].scales):  # type: ignore[arg-type]
            failures.append(f"{dtype} {dim} from {source}: other scales")
    return failures


def check_topk(width: int, rows: int, k: int) -> list[str]:
    """Compare the top-k kernel with the reference, for every cluster size."""
    failures = []
    library = _library(torch.device("cuda", torch.cuda.current_device()))
    assert library is not None, "the kernels are not built: this would compare the reference with itself"
    for name, scores in score_rows(rows, width):
        lengths = torch.randint(0, width + 1, (rows,), dtype=torch.int32, device="cuda")
        lengths[0] = width
        expected = torch.empty(rows, k, dtype=torch.int32, device="cuda")
        take_best(scores, lengths, expected)
        for blocks in (n for n in (1, 2, 4, 8, 16) if n * MOST_SCORES_A_BLOCK >= width):
            out = torch.full_like(expected, -77)
            launch(library, scores, lengths, out, blocks)
            if not torch.equal(out, expected):
                failures.append(f"top-k of {rows} x {width}, k {k}, {blocks} blocks, {name}: wrong")
    return failures


def check_graph(keys: torch.dtype) -> list[str]:
    """Replay one captured graph with other lengths, queries and key slots."""
    shape = Shape(keys, torch.bfloat16, 64, 128, 512, (9000, 700, 0, 512, 513, 3000))
    inputs, failures = make_inputs(shape), []
    out = torch.empty(len(shape.lengths), shape.k, dtype=torch.int32, device="cuda")
    scores = torch.empty(len(shape.lengths), 9000, device="cuda")
    arguments = (inputs.query, inputs.weights, inputs.index, inputs.key_slots, inputs.starts, inputs.lengths)
    select(*arguments, out, scores)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        select(*arguments, out, scores)
    for _ in range(4):
        inputs.lengths.copy_(torch.tensor(random.choices(range(9000), k=len(out)), dtype=torch.int32))
        inputs.starts.copy_(torch.randint(0, len(inputs.key_slots) - 9000, (len(out),)))
        inputs.query.normal_()
        graph.replay()
        if not torch.equal(out, inputs.run(shape.k, 9000)[0]):
            failures.append(f"{keys}: a replay differs from a call")
    return failures


def check_rest(quick: bool) -> list[str]:
    """Check the top-k alone, stored keys, and replays; return the failures."""
    failures = []
    sizes = (
        [(300, 5, 128)] if quick else [(5000, 9, 2048), (9001, 7, 512), (33_000, 5, 2048), (163_840, 3, 2048)]
    )
    for width, rows, k in sizes:
        failures += check_topk(width, rows, k)
    for keys in (torch.bfloat16, torch.float8_e4m3fn, torch.float32):
        failures += check_store(keys, 128) + check_store(keys, 32)
    for keys in (torch.bfloat16, torch.float8_e4m3fn):
        failures += check_graph(keys)
    return failures


def main() -> None:
    """Run all checks and write what they gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--shard", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="every Nth case"
    )
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    shard, shards = options.shard
    outcomes, failures = [], check_rest(options.quick) if shard == 0 else []
    for shape in list(cases(options.quick))[shard::shards]:
        try:
            outcomes.append(check(shape))
        except Exception:  # noqa: BLE001 (one case must not hide the others)
            outcomes.append(Outcome(str(shape), -1.0, -1.0, (traceback.format_exc(),)))
        report = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cases": [asdict(outcome) for outcome in outcomes],
            "failures": failures,
        }
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    failed = [outcome for outcome in outcomes if outcome.failures]
    worst, least = max(o.error for o in outcomes), min(o.overlap for o in outcomes)
    print(f"{len(outcomes)} cases, {len(failed)} failed, worst error {worst:.1e}, least overlap {least:.4f}")
    for outcome in failed[:5]:
        print("FAILED", outcome.shape[:150], [failure[-300:] for failure in outcome.failures])
    print(f"{len(failures)} other failures", *failures[:5], sep="\n")
    if failed or failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
