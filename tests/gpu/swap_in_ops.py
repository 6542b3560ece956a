"""The swap-in kernels on a GPU against the reference: python -m tests.gpu.swap_in_ops --out FILE [--quick]."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from hisparse_engine.ops.gpu import swap_in
from hisparse_engine.ops.interface import Operations
from tests.support.swap_in_checks import check_steps, worlds


class Captured:
    """The operations, each called as the replay of a CUDA graph of its own."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        operation = getattr(swap_in, name)

        def replayed(*arguments: object) -> None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                operation(*arguments)
            graph.replay()
            torch.cuda.synchronize()

        return replayed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="few and small, for compute-sanitizer")
    parser.add_argument("--seconds", type=float, default=20.0, help="stop drawing worlds after this long")
    arguments = parser.parse_args()
    device = torch.device("cuda")
    started, checked = time.perf_counter(), 0
    for k_most, growth, steps in [(9, 3, 6), (300, 3, 5), (2048, 3, 4)]:
        for rng, sizes in worlds(k_most, 1 if arguments.quick else 60, k_most, growth):
            if time.perf_counter() - started > arguments.seconds:
                break
            ops = cast(Operations, Captured() if checked % 3 == 1 else swap_in)
            check_steps(ops, rng, sizes, 2 if arguments.quick else steps, device)
            checked += 1
    result = {
        "worlds": checked,
        "seconds": time.perf_counter() - started,
        "gpu": torch.cuda.get_device_name(),
    }
    arguments.out.write_text(json.dumps(result))
    print(result)


if __name__ == "__main__":
    main()
