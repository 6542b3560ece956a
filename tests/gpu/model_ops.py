"""The model's CUDA kernels and its whole forward pass: against the plain layers, in a CUDA graph, and against the clock.

python -m tests.gpu.model_ops --out benchmarks/results/gpu_model_ops.json [--quick]
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

from tests.gpu.model_checks import check_operations, check_pass
from tests.gpu.model_inputs import SHAPES
from tests.gpu.model_times import measure

BATCHES = (1, 8, 64, 256)


@torch.inference_mode()
def main() -> None:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--quick", action="store_true", help="fewer repeats and small sizes, for compute-sanitizer"
    )
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--parts", nargs="+", default=["operations", "pass", "times"])
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    args = parser.parse_args()
    parts: dict[str, Callable[[str], Iterator[dict[str, object]]]] = {
        "operations": lambda name: check_operations(name, quick=args.quick),
        "pass": lambda name: check_pass(name, quick=args.quick),
        "times": lambda name: measure(name, args.batches, 5 if args.quick else 20),
    }
    rows = []
    for name in args.shapes:
        for part in args.parts:
            for row in parts[part](name):
                rows.append({"part": part, "shapes": name, **row})
                print(json.dumps(rows[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps({**about(), "rows": rows}, indent=2) + "\n")


def about() -> dict[str, object]:
    """Where and with what this ran."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
