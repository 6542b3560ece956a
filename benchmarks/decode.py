"""Decoding at equal device bytes for KV: hierarchical against resident, over contexts and concurrencies. Needs a GPU.

    python benchmarks/decode.py --model glm5.2 --contexts 131072      adds to results/decode.json
    python benchmarks/decode.py --pictures                            draws docs/images/perf-decode-*.png from it

The model has the released attention shapes, random weights, and a share of the layers and experts. The engine is the
real one; requests get their context without a prefill. Selection follows a locality model that costs `--misses` rows a
step, request and index group in a full-size hot buffer, or the model's own indexer (`--own-indexer`), which with random
weights selects almost anything at every step. Each mode runs every concurrency that fits its pools.
`--parts` leaves parts of the step out, one after the other; PyTorch's profiler splits what then is left, at the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

import torch  # noqa: E402 - the path comes first

from benchmarks import decode_results  # noqa: E402
from benchmarks.decode_models import MODELS  # noqa: E402
from benchmarks.decode_run import Bench, host_memory_for, make_model  # noqa: E402
from benchmarks.decode_scenario import MODES  # noqa: E402


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="glm5.2")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument(
        "--experts", type=int, default=32, help="a layer; 32 of 256 is one GPU's share of eight"
    )
    parser.add_argument(
        "--device-gib", type=float, default=9.75, help="for KV: rows, index keys, residency tables"
    )
    parser.add_argument("--host-gib", type=float, default=80.0)
    parser.add_argument("--buffer", type=int, default=4096, help="the smallest hot buffer")
    parser.add_argument("--contexts", type=int, nargs="+", default=[8192, 32_768, 131_072])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--modes", choices=MODES, nargs="+", default=list(MODES))
    parser.add_argument("--misses", type=float, default=32.0)
    parser.add_argument("--own-indexer", action="store_true")
    parser.add_argument("--index-keys", choices=("bfloat16", "float8"), default="bfloat16")
    parser.add_argument("--new-tokens", type=int, default=768)
    parser.add_argument("--warmup", type=int, default=8)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--only-most", action="store_true", help="only as many requests as fit")
    parser.add_argument(
        "--parts", action="store_true", help="also leave parts out, to see what each adds to a step"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="no cell begins later")
    parser.add_argument(
        "--quick", action="store_true", help="a small model and few cells, to see that it runs"
    )
    parser.add_argument("--pictures", action="store_true", help="only draw what has been measured")
    parser.add_argument("--out", type=Path, default=decode_results.RESULT)
    options = parser.parse_args(arguments)
    if options.quick:
        options.layers, options.experts, options.device_gib, options.host_gib = 5, 8, 2.0, 8.0
        options.contexts, options.concurrency, options.steps = [32_768], [1, 8], 12
    return options


def main() -> None:
    options = parse()
    if options.pictures:
        from benchmarks.decode_picture import save_pictures

        save_pictures(decode_results.read(options.out), ROOT / "docs" / "images")
        return
    if not torch.cuda.is_available():
        raise SystemExit("decode.py measures on a CUDA device, and there is none")
    model = make_model(options)
    host = host_memory_for([options]) if "hierarchical" in options.modes else None
    bench, rows = Bench(options, model, host), []
    for row in bench.run():
        rows.append(row)
        decode_results.write(options.out, [row])  # as they come: a run that is cut short keeps what it has
    for row in bench.split_model(decode_results.merge([], rows)):
        decode_results.write(options.out, [row])
    decode_results.show(decode_results.merge([], rows))


if __name__ == "__main__":
    main()
