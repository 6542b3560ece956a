"""The engines that `observability.py` watches: the demo's model on the CPU, a few layers of GLM-5.2 on a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch

from benchmarks.decode_ablation import TIMING
from benchmarks.decode_calibration import read_table, turnover_for
from benchmarks.decode_engine import BenchEngine, Setting
from benchmarks.decode_locality import Locality
from benchmarks.decode_models import MODELS, random_model
from benchmarks.decode_scenario import Pools
from hisparse_engine.engine import Observer
from hisparse_engine.kv import PoolSizes
from hisparse_engine.ops.interface import Operations

CPU_CONTEXT, GPU_CONTEXT = 1024, 8192
NEW_TOKENS = 18_000
MISSES = 16.0


class Watched(NamedTuple):
    """An engine that decodes, and what it is."""

    engine: BenchEngine
    about: dict[str, Any]

    def step(self) -> int:
        """Do one step."""
        return self.engine.step()


class Pair(NamedTuple):
    """The same engine twice: as it is, and one that does not time its swap-ins."""

    timed: Watched
    untimed: Watched


def cpu_engines(requests: int, observer: Observer) -> Pair:
    """The demo's checkpoint on the reference operations, one thread."""
    from benchmarks.eviction_traces import demo_model
    from hisparse_engine.ops import reference

    torch.set_num_threads(1)
    model, _ = demo_model(128)
    setting = _setting(CPU_CONTEXT, requests, 256, Locality(top_k=128, window=16, turnover=0.1))
    return _start(model, setting, cast(Operations, reference), requests, observer, "demo")


def gpu_engines(requests: int, observer: Observer) -> Pair:
    """Six layers of GLM-5.2 with 8 experts: a short step, on which whatever is added shows most."""
    from hisparse_engine.ops.gpu import operations

    operations.build()
    model = random_model(MODELS["glm5.2"](6, 8), torch.device("cuda"))
    locality = Locality(turnover=turnover_for(MISSES, GPU_CONTEXT, 4096, read_table()))
    setting = _setting(GPU_CONTEXT, requests, 4096, locality)
    return _start(
        model, setting, cast(Operations, operations), requests, observer, "GLM-5.2, 6 layers, 8 experts"
    )


def _setting(context: int, requests: int, buffer: int, locality: Locality) -> Setting:
    tokens = requests * (context + NEW_TOKENS)
    sizes = PoolSizes(requests * (buffer + 1), tokens, tokens, buffer)
    return Setting("hierarchical", context, NEW_TOKENS, Pools(sizes, requests), locality, (requests,))


def _start(
    model: Any, setting: Setting, ops: Operations, requests: int, observer: Observer, name: str
) -> Pair:
    about = {"model": name, "mode": setting.mode, "requests": requests, "context": setting.context}

    def watched(gone: frozenset[str]) -> Watched:
        engine = BenchEngine(model, replace(setting, gone=gone), ops, observers=[observer])
        engine.admit(requests)
        return Watched(engine, about)

    return Pair(watched(frozenset()), watched(frozenset({TIMING})))
