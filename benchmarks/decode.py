"""Decoding at equal device bytes for KV: hierarchical against resident, over contexts and concurrencies. Needs a GPU.

    python benchmarks/decode.py --model glm5.2 --contexts 131072      adds to results/decode.json
    python benchmarks/decode.py --pictures                            draws docs/images/perf-decode-*.png from it

The model has the released attention shapes, random weights, and a share of the layers and experts. The engine is the
real one; requests get their context without a prefill. Selection follows a locality model that costs `--misses` rows a
step, request and index group in a full-size hot buffer, or the model's own indexer (`--own-indexer`), which with random
weights selects almost anything at every step. Each mode runs every concurrency that fits its pools.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

import torch  # noqa: E402 - the path comes first

from benchmarks import decode_results  # noqa: E402
from benchmarks.decode_calibration import read_table, turnover_for  # noqa: E402
from benchmarks.decode_engine import BenchEngine, Setting  # noqa: E402
from benchmarks.decode_locality import Locality  # noqa: E402
from benchmarks.decode_measure import measure  # noqa: E402
from benchmarks.decode_models import MODELS, random_model  # noqa: E402
from benchmarks.decode_parts import profile, split, unnamed  # noqa: E402
from benchmarks.decode_pinned import HostMemory  # noqa: E402
from benchmarks.decode_scenario import MODES, Budget, Cell, Mode, Scenario, cells  # noqa: E402
from hisparse_engine.layout import KVLayout  # noqa: E402
from hisparse_engine.memory_plan import GIB  # noqa: E402
from hisparse_engine.models.dsa import DsaModel  # noqa: E402
from hisparse_engine.ops.interface import Operations  # noqa: E402

PROFILED_STEPS = 6


class Bench:
    """One model, and the host memory that all its engines use."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._started = time.monotonic()
        config = MODELS[options.model](options.layers, options.experts)
        layout = KVLayout.from_indexer_types(config.kv_row_dim, config.index_head_dim, config.indexer_types)
        budget = Budget.of_gib(options.device_gib, options.host_gib)
        self.scenario = Scenario(layout, "bfloat16", budget, options.buffer, options.new_tokens)
        self._about = {
            "model": options.model,
            "layers": config.num_hidden_layers,
            "experts": config.n_routed_experts,
            "device_gib": options.device_gib,
            "host_gib": options.host_gib,
            "buffer": options.buffer,
            "selection": "own indexer" if options.own_indexer else f"{options.misses:g} misses",
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._model: DsaModel = random_model(config, torch.device("cuda"))
        self._say(f"model: {sum(t.nbytes for t in _storages()) / 1e9:.1f} GB on the device")
        self._host = self._make_host() if "hierarchical" in options.modes else None

    def _make_host(self) -> HostMemory:
        pools = [self.scenario.pools("hierarchical", context) for context in self._options.contexts]
        needed = max(pool.sizes.host_tokens for pool in pools) * self.scenario.token.kv_rows
        host = HostMemory(-(-needed // (1 << 21)) << 21, pin=True)
        tile = torch.randn(1 << 29, dtype=torch.bfloat16, device="cuda").view(torch.uint8)
        host.fill(tile)
        torch.cuda.synchronize()
        self._say(f"host pool: {needed / GIB:.1f} GiB pinned and filled")
        return host

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each cell; a cell that fails is a row with its error."""
        every = list(cells(self.scenario, self._options.contexts, self._options.concurrency))
        for context in self._options.contexts:
            for mode in self._options.modes:
                yield from self._run_mode(mode, context, [c for c in every if c[:2] == (mode, context)])

    def _run_mode(self, mode: Mode, context: int, wanted: list[Cell]) -> Iterator[dict[str, Any]]:
        engine: BenchEngine | None = None
        try:
            for cell in wanted:
                if time.monotonic() - self._started > self._options.seconds:
                    self._say(f"out of time: {cell} and what follows is left out")
                    return
                engine = engine or self._make_engine(mode, context, [cell.concurrency for cell in wanted])
                yield self._run_cell(engine, cell, most=cell == wanted[-1])
        except Exception as error:  # noqa: BLE001 - one cell must not cost the others
            traceback.print_exc()
            yield {
                **self._about,
                **Cell(mode, context, 0)._asdict(),
                "error": f"{type(error).__name__}: {error}"[:300],
            }
        finally:
            del engine
            gc.collect()
            torch.cuda.empty_cache()

    def _make_engine(self, mode: Mode, context: int, batch_sizes: list[int]) -> BenchEngine:
        from hisparse_engine.ops.gpu import operations  # Triton and CUDA: only where there is a GPU

        operations.build()
        setting = Setting(
            mode,
            context,
            self._options.new_tokens,
            self.scenario.pools(mode, context),
            self._locality(context),
        )
        engine = BenchEngine(self._model, setting, cast(Operations, operations), self._host)
        self._say(f"{mode}, {context}: engine with {engine.device_bytes / GIB:.2f} GiB of KV on the device")
        return engine

    def _locality(self, context: int) -> Locality | None:
        if self._options.own_indexer:
            return None
        return Locality(
            turnover=turnover_for(self._options.misses, context, self._options.buffer, read_table())
        )

    def _run_cell(self, engine: BenchEngine, cell: Cell, *, most: bool) -> dict[str, Any]:
        engine.admit(cell.concurrency)
        figures = measure(engine, warmup=self._options.warmup, steps=self._options.steps)
        row = {**self._about, **cell._asdict(), **figures, "most": most, "hot_slots": engine.hot_slots}
        row["device_kv_bytes"] = engine.device_bytes
        if most or cell.concurrency in self._options.profile:
            kernels = profile(engine.step, PROFILED_STEPS)
            row |= {"parts_ms": split(kernels, PROFILED_STEPS), "unnamed_us": unnamed(kernels)}
        self._say(
            f"{cell.mode}, {cell.context}, {cell.concurrency}: {row['tokens_per_second']:.0f} tokens/s, "
            f"{row['step_ms']:.2f} ms, {row['misses_per_step']:.0f} misses"
        )
        return row

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:5.1f} s] {text}", flush=True)


def _storages() -> Iterator[torch.Tensor]:
    """Yield every tensor on the device that Python knows of, each storage once."""
    seen = set()
    for thing in gc.get_objects():
        if (
            isinstance(thing, torch.Tensor)
            and thing.is_cuda
            and thing.untyped_storage().data_ptr() not in seen
        ):
            seen.add(thing.untyped_storage().data_ptr())
            yield thing


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="glm5.2")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument(
        "--experts", type=int, default=32, help="a layer; 32 of 256 is one GPU's share of eight"
    )
    parser.add_argument(
        "--device-gib", type=float, default=12.0, help="for KV: rows, index keys, residency tables"
    )
    parser.add_argument("--host-gib", type=float, default=80.0)
    parser.add_argument("--buffer", type=int, default=4096, help="the smallest hot buffer")
    parser.add_argument("--contexts", type=int, nargs="+", default=[8192, 32_768, 131_072])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--modes", choices=MODES, nargs="+", default=list(MODES))
    parser.add_argument("--misses", type=float, default=32.0)
    parser.add_argument("--own-indexer", action="store_true")
    parser.add_argument("--new-tokens", type=int, default=768)
    parser.add_argument("--warmup", type=int, default=8)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument(
        "--profile", type=int, nargs="*", default=[1], help="concurrencies to split into parts"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="no cell begins later")
    parser.add_argument(
        "--quick", action="store_true", help="a small model and few cells, to see that it runs"
    )
    parser.add_argument("--pictures", action="store_true", help="only draw what has been measured")
    parser.add_argument("--out", type=Path, default=decode_results.RESULT)
    options = parser.parse_args()
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
    rows = []
    for row in Bench(options).run():
        rows.append(row)
        decode_results.write(options.out, [row])  # as they come: a run that is cut short keeps what it has
    decode_results.show(rows)


if __name__ == "__main__":
    main()
