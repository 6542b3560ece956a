"""The plan of an engine that starts: made before its weights are loaded, refused where it cannot fit, printed once it is up."""

from __future__ import annotations

from rich.console import Console

from hisparse_engine.config import EngineConfig
from hisparse_engine.errors import CapacityError
from hisparse_engine.memory_plan import MemoryPlan
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.plan.assemble import blueprint_of
from hisparse_engine.plan.machine import Memory, memory_of_gpu_and_host
from hisparse_engine.plan.text import gib, memory_table, plain_console


def plan_at_start(config: EngineConfig, model: ModelConfig) -> MemoryPlan:
    """Return the plan; :class:`CapacityError` when a GPU or the memory that is pinned for it is sure to be too small."""
    sizes = config.hisparse.resolve(
        mode=config.mode, top_k=model.index_topk, max_running_requests=config.max_running_requests
    )
    resident = config.mode == "resident"
    plan = blueprint_of(model, config).plan(sizes, config.max_running_requests, resident=resident)
    if config.device == "cuda":
        refuse_what_cannot_fit(plan, memory_of_gpu_and_host())
    return plan


def refuse_what_cannot_fit(plan: MemoryPlan, memory: Memory) -> None:
    """Raise :class:`CapacityError` when weights and cache, or the host pool, are larger than what there is.

    What a step works with is partly estimated, and refuses nothing.
    """
    certain = ("weights", "cache")
    parts = [part for part in plan.all_parts() if part.tier == "device" and part.group in certain]
    needed = sum(part.num_bytes for part in parts)
    if needed > memory.device_free:
        raise CapacityError(
            f"weights and KV cache take {gib(needed)} GiB of device memory, and {gib(memory.device_free)} GiB are free; "
            "lower --device-tokens or --index-tokens; hisparse plan says what fits"
        )
    if plan.host_bytes > memory.host:
        raise CapacityError(
            f"the host pool takes {gib(plan.host_bytes)} GiB of main memory, and this machine has {gib(memory.host)} GiB; "
            "lower --host-tokens or --host-memory-gib"
        )


def print_at_start(plan: MemoryPlan, console: Console | None = None) -> None:
    """Print the plan's table on standard error, a step's parts as one."""
    plain_console(console or Console(stderr=True, highlight=False)).print(memory_table(plan, brief=True))
