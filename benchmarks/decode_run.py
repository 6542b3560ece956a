"""Runs the cells of `decode.py`: engines made, measured, taken apart and thrown away, one model and one set of options each."""

from __future__ import annotations

import argparse
import gc
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import torch

from benchmarks.decode_ablation import LEVELS, parts
from benchmarks.decode_calibration import read_table, turnover_for
from benchmarks.decode_engine import BenchEngine, Setting
from benchmarks.decode_locality import Locality
from benchmarks.decode_measure import measure
from benchmarks.decode_models import MODELS, random_model, share_direction
from benchmarks.decode_parts import profile, split
from benchmarks.decode_pinned import HostMemory
from benchmarks.decode_scenario import Budget, Cell, Mode, Scenario, cells
from hisparse_engine.layout import KVLayout
from hisparse_engine.memory_plan import GIB
from hisparse_engine.models.dsa import DsaModel
from hisparse_engine.ops.interface import Operations

PROFILED_STEPS = 6


class Bench:
    """One model under one set of options. Host memory and model may be another run's as well."""

    def __init__(self, options: argparse.Namespace, model: DsaModel, host: HostMemory | None) -> None:
        self._options, self._model, self._host = options, model, host
        self.scenario = scenario_of(options)
        self._about = {
            "model": options.model,
            "layers": options.layers,
            "experts": options.experts,
            "device_gib": options.device_gib,
            "host_gib": options.host_gib,
            "buffer": options.buffer,
            "index_keys": options.index_keys,
            "selection": "own indexer" if options.own_indexer else f"{options.misses:g} misses",
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each cell; a cell that fails is a row with its error."""
        every = list(cells(self.scenario, self._options.contexts, self._options.concurrency))
        for context in self._options.contexts:
            for mode in self._options.modes:
                yield from self._run_mode(mode, context, [c for c in every if c[:2] == (mode, context)])

    def _run_mode(self, mode: Mode, context: int, wanted: list[Cell]) -> Iterator[dict[str, Any]]:
        if self._options.only_most:
            wanted = wanted[-1:]
        rows: list[dict[str, Any]] = []
        try:
            for row in self._run_cells(mode, context, wanted):
                rows.append(row)
                yield row
            if self._options.parts:
                yield from self._take_apart(
                    mode, context, [row for row in rows if row["most"] or row["concurrency"] == 1]
                )
        except Exception as error:  # noqa: BLE001 - one cell must not cost the others
            traceback.print_exc()
            about = {**self._about, **Cell(mode, context, 0)._asdict()}
            yield {**about, "error": f"{type(error).__name__}: {error}"[:300]}

    def _run_cells(self, mode: Mode, context: int, wanted: list[Cell]) -> Iterator[dict[str, Any]]:
        if not wanted or out_of_time(self._options, f"{mode}, {context}"):
            return
        with self._engine(mode, context, [cell.concurrency for cell in wanted]) as engine:
            say(f"{mode}, {context}: engine with {engine.device_bytes / GIB:.2f} GiB of KV on the device")
            for cell in wanted:
                if out_of_time(self._options, str(cell)):
                    return
                yield self._run_cell(engine, cell, most=cell == wanted[-1])

    @contextmanager
    def _engine(
        self, mode: Mode, context: int, batch_sizes: list[int], gone: frozenset[str] = frozenset()
    ) -> Iterator[BenchEngine]:
        from hisparse_engine.ops.gpu import operations  # Triton and CUDA: only where there is a GPU

        operations.build()
        pools, options = self.scenario.pools(mode, context), self._options
        setting = Setting(
            mode, context, options.new_tokens, pools, self._locality(context), tuple(batch_sizes),
            self.scenario.float8_keys, gone,
        )  # fmt: skip
        holder = [BenchEngine(self._model, setting, cast(Operations, operations), self._host)]
        try:
            yield holder[0]
        finally:
            holder.clear()
            gc.collect()
            torch.cuda.empty_cache()

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
        say(
            f"{cell.mode}, {cell.context}, {cell.concurrency}: {row['tokens_per_second']:.0f} tokens/s, "
            f"{row['step_ms']:.2f} ms, {row['misses_per_step']:.0f} misses"
        )
        return row

    def _take_apart(self, mode: Mode, context: int, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the rows again, with what each part adds to their steps."""
        without: dict[int, dict[str, float]] = {row["concurrency"]: {} for row in rows}
        for part, gone in LEVELS[mode]:
            if out_of_time(self._options, f"{mode}, {context} without {part}"):
                return
            with self._engine(mode, context, list(without), gone) as engine:
                for concurrency, found in without.items():
                    engine.admit(concurrency)
                    found[part] = measure(engine, warmup=4, steps=self._options.steps)["step_ms"]
                del engine  # before the next one is made
        for row in rows:
            row["parts_ms"] = parts(mode, row["step_ms"], without[row["concurrency"]])
            say(f"{mode}, {context}, {row['concurrency']}: {row['parts_ms']}")
            yield row

    def split_model(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the rows that were taken apart with the times of the kernels that then were left, ms a step.

        To be done last: the profiler makes whatever comes after it slower.
        """
        for row in rows:
            if "parts_ms" not in row or out_of_time(self._options, "a profile"):
                continue
            mode, context, concurrency = row["mode"], row["context"], row["concurrency"]
            with self._engine(mode, context, [concurrency], LEVELS[mode][-1][1]) as engine:
                engine.admit(concurrency)
                row["model_ms"] = split(profile(engine.step, PROFILED_STEPS), PROFILED_STEPS)
                del engine
            yield row


_STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _STARTED:5.1f} s] {text}", flush=True)


def out_of_time(options: argparse.Namespace, what: str) -> bool:
    late = bool(time.monotonic() - _STARTED > options.seconds)
    if late:
        say(f"out of time: {what} is left out")
    return late


def scenario_of(options: argparse.Namespace) -> Scenario:
    config = MODELS[options.model](options.layers, options.experts)
    layout = KVLayout.from_indexer_types(config.kv_row_dim, config.index_head_dim, config.indexer_types)
    budget = Budget.of_gib(options.device_gib, options.host_gib)
    return Scenario(
        layout, "bfloat16", budget, options.buffer, options.new_tokens, options.index_keys == "float8"
    )


def host_memory_for(runs: list[argparse.Namespace]) -> HostMemory:
    """Pin as much as the largest pool of all runs takes, and fill it with random rows."""
    needed = 0
    for options in runs:
        scenario = scenario_of(options)
        pools = [scenario.pools("hierarchical", context) for context in options.contexts]
        needed = max(needed, max(pool.sizes.host_tokens for pool in pools) * scenario.token.kv_rows)
    host = HostMemory(-(-needed // (1 << 21)) << 21, pin=True)
    host.fill(torch.randn(1 << 29, dtype=torch.bfloat16, device="cuda").view(torch.uint8))
    torch.cuda.synchronize()
    say(f"host pool: {needed / GIB:.1f} GiB pinned and filled")
    return host


def make_model(options: argparse.Namespace) -> DsaModel:
    model = random_model(MODELS[options.model](options.layers, options.experts), torch.device("cuda"))
    if options.own_indexer:
        share_direction(model)
    say(f"{options.model}: {torch.cuda.memory_allocated() / 1e9:.1f} GB on the device")
    return model
