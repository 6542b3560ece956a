"""``hisparse plan``: settings and a machine's memory → a report, and the flags that start an engine with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from hisparse_engine.errors import ConfigError
from hisparse_engine.memory_plan import GIB, MemoryPlan
from hisparse_engine.models.weight_sizes import Weights, weigh
from hisparse_engine.plan.assemble import blueprint_of
from hisparse_engine.plan.balance import Balance, Budget
from hisparse_engine.plan.report import PlanReport, make_report
from hisparse_engine.settings.given import Problem, SettingsError, flag_of
from hisparse_engine.settings.resolve import Resolved

USUAL_CONTEXT = 131_072
_PASSED_ON = ("prefill_chunk_size", "kv_cache_dtype", "index_key_dtype", "kernels")
_WORKED_OUT = ("device_tokens", "host_tokens", "index_tokens", "device_memory_gib")


class PlanOptions(NamedTuple):
    """What the command was asked for, besides the engine's settings."""

    gpu_memory_gib: float
    context: int | None
    weights_gib: float | None
    reserve_gib: float


@dataclass(frozen=True)
class Chosen:
    """The report, and how to start with it."""

    report: PlanReport
    resident: bool
    flags: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command line that starts a server with these pools."""
        return shlex.join(["hisparse", "serve", *self.flags])

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.report.as_dict() | {"serve": list(self.flags)}


def choose(resolved: Resolved, options: PlanOptions) -> Chosen:
    """Balance the pools; :class:`CapacityError` when nothing fits, :class:`ConfigError` for what cannot be planned."""
    problems = tuple(_problems(resolved))
    if problems:
        raise SettingsError(problems)
    settings, model = resolved.settings, resolved.model
    assert model is not None
    assert settings.hisparse.host_memory_gib is not None
    context = options.context or min(USUAL_CONTEXT, model.max_position_embeddings)
    if context > model.max_position_embeddings:
        raise ConfigError(
            f"--context: got {context}, expected from 1 to the model's {model.max_position_embeddings} positions"
        )
    engine = settings.engine.model_copy(update={"device": "cuda"})
    weights = _weights(resolved, options, engine.dtype_for(model.dtype))
    reserve = int(options.reserve_gib * GIB)
    blueprint = blueprint_of(model, engine, weights=weights.num_bytes, reserve=reserve)
    balance = Balance(
        blueprint,
        Budget(int(options.gpu_memory_gib * GIB), int(settings.hisparse.host_memory_gib * GIB)),
        settings.hisparse.device_buffer_size or 2 * model.index_topk,
        _most(resolved),
    )
    resident = settings.engine.mode == "resident"
    report = make_report(balance, weights, context, resident=resident)
    plan = (report.resident if resident else report.hierarchical).plan
    assert plan is not None
    return Chosen(report, resident, tuple(_flags(resolved, plan, blueprint.dtype)))


def _problems(resolved: Resolved) -> Iterator[Problem]:
    if resolved.settings.hisparse.host_memory_gib is None:
        yield Problem(
            ("hisparse", "host_memory_gib"), "is missing; say how much main memory the host pool may take, by --host-memory-gib"
        )  # fmt: skip
    for name in _WORKED_OUT:
        path = ("hisparse", name)
        if path in resolved.given:
            yield Problem(
                path,
                "is what the plan works out; leave it out, or see what it comes to by hisparse config check",
                resolved.given[path].origin,
            )


def _weights(resolved: Resolved, options: PlanOptions, dtype: str) -> Weights:
    if options.weights_gib is not None:
        return Weights(int(options.weights_gib * GIB), "--weights-gib", {})
    assert resolved.model is not None
    return weigh(resolved.folder, resolved.model, dtype, fused=True)


def _most(resolved: Resolved) -> int | None:
    """Return the bound on requests that somebody gave; without one, memory decides."""
    path = ("engine", "max_running_requests")
    return resolved.settings.engine.max_running_requests if path in resolved.given else None


def _flags(resolved: Resolved, plan: MemoryPlan, dtype: str) -> Iterator[str]:
    sizes = plan.sizes
    values: dict[str, object] = {
        "model": resolved.folder,
        "device": "cuda",
        "dtype": dtype,
        "max_running_requests": plan.max_running_requests,
        "device_tokens": sizes.device_tokens,
    }
    if plan.resident:
        values["mode"] = "resident"
    else:
        values |= {"host_tokens": sizes.host_tokens, "device_buffer_size": sizes.device_buffer_size}
    for name in _PASSED_ON:
        if ("engine", name) in resolved.given:
            values[name] = getattr(resolved.settings.engine, name)
    for name, value in values.items():
        yield from (flag_of((name,)), str(value))
