"""What a configuration comes to, as values: settings with their origin, pools, concurrency, what runs out first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hisparse_engine.errors import ConfigError
from hisparse_engine.memory_plan import GIB, MemoryPlan, Need
from hisparse_engine.models.config import ModelConfig
from hisparse_engine.plan.machine import main_memory_bytes
from hisparse_engine.settings.given import SettingPath, dotted, flag_of
from hisparse_engine.settings.resolve import Resolved
from hisparse_engine.settings.validate import KEYS

USUAL_CONTEXTS = (8192, 32768, 131072)
_BUDGET_OF = {"device_tokens": "device_memory_gib", "host_tokens": "host_memory_gib"}
_SHAPES = ("architecture", "num_hidden_layers", "num_full_indexer_layers", "kv_row_dim", "index_head_dim",
           "index_topk", "max_position_embeddings")  # fmt: skip
_RESIDENT_IGNORES = ("device_buffer_size", "host_tokens", "host_memory_gib")


class Row(NamedTuple):
    """One setting: its value, and where it came from."""

    setting: str
    value: object
    origin: str


@dataclass(frozen=True)
class Concurrency:
    """How many requests of ``context`` tokens run at the same time, and what bounds them.

    ``resident_requests``: how many there would be if the same device bytes held every row.
    """

    context: int
    requests: int
    resident_requests: int
    first_to_run_out: str
    raise_setting: str
    needed: int
    capacity: int


@dataclass(frozen=True)
class Report:
    """The whole of it. Without a model there are settings and notes alone."""

    settings: tuple[Row, ...]
    notes: tuple[str, ...]
    model: dict[str, Any] | None
    concurrency: tuple[Concurrency, ...]
    plan: MemoryPlan | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; sizes in bytes and tokens."""
        memory = None
        if self.plan is not None:
            plan = self.plan
            memory = {
                **asdict(plan.sizes),
                "device_bytes": plan.device_bytes,
                "all_device_bytes": plan.all_device_bytes,
                "host_bytes": plan.host_bytes,
                "parts": [part.as_dict() for part in plan.parts()],
                "beside": [part.as_dict() for part in plan.beside],
            }
        return {
            "valid": True,
            "settings": {row.setting: {"value": row.value, "origin": row.origin} for row in self.settings},
            "notes": list(self.notes),
            "model": self.model,
            "memory": memory,
            "concurrency": [asdict(row) for row in self.concurrency],
        }


def parse_contexts(text: str | None, model: ModelConfig | None) -> tuple[int, ...]:
    """Return the contexts to look at; :class:`ConfigError` for what is no length that the model has positions for."""
    limit = model.max_position_embeddings if model is not None else None
    if text is None:
        return tuple(c for c in USUAL_CONTEXTS if limit and c <= limit) or ((limit,) if limit else ())
    try:
        contexts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"expected lengths such as 8192,32768, got {text!r}") from None
    for context in contexts:
        if context < 1 or context > (limit or context):
            raise ConfigError(
                f"got {context}, expected from 1 to the model's {limit or 'number of'} positions"
            )
    return contexts


def make_report(resolved: Resolved, contexts: Sequence[int]) -> Report:
    """Put together what ``resolved`` comes to for requests of the given lengths."""
    plan, model = resolved.plan, resolved.model
    return Report(
        settings=tuple(_rows(resolved)),
        notes=tuple(_notes(resolved)),
        model=_shapes(model) | _dtypes(resolved, model) if model is not None else None,
        concurrency=tuple(_concurrency(resolved, plan, c) for c in contexts) if plan is not None else (),
        plan=plan,
    )


def _shapes(model: ModelConfig) -> dict[str, Any]:
    return {name: getattr(model, name) for name in _SHAPES}


def _dtypes(resolved: Resolved, model: ModelConfig) -> dict[str, Any]:
    """Return what the model computes in, and what its KV rows are stored in."""
    engine = resolved.settings.engine
    return {"dtype": engine.dtype_for(model.dtype), "kv_row_dtype": engine.row_dtype_for(model.dtype)}


def _rows(resolved: Resolved) -> Iterator[Row]:
    for path in all_paths():
        owner = resolved.settings if len(path) == 1 else getattr(resolved.settings, path[0])
        value = getattr(owner, path[-1])
        origin = resolved.given[path].origin if path in resolved.given else "default"
        if value is None and path[0] == "hisparse" and resolved.plan is not None:
            value = getattr(resolved.plan.sizes, path[-1], None)
            budget = _budget(resolved, path)
            origin = f"from {dotted(budget)}" if budget != path else origin
        yield Row(dotted(path), str(value) if isinstance(value, Path) else value, origin)


def all_paths() -> Iterator[SettingPath]:
    """Yield the path of every setting, in the file's order."""
    for name in KEYS[()]:
        keys = KEYS.get((name,))
        yield from [(name, key) for key in keys] if keys else [(name,)]


def _budget(resolved: Resolved, path: SettingPath) -> SettingPath:
    """Return the path of the budget that decides about a capacity, else ``path`` itself."""
    budget = _BUDGET_OF.get(path[-1], "")
    return (
        ("hisparse", budget) if budget and getattr(resolved.settings.hisparse, budget) is not None else path
    )


def _concurrency(resolved: Resolved, plan: MemoryPlan, context: int) -> Concurrency:
    first: Need = next(plan.needs(context))
    section, _, name = first.setting.partition(".")
    path = _budget(resolved, (section, name))
    return Concurrency(
        context=context,
        requests=first.requests,
        resident_requests=plan.resident_concurrency(context),
        first_to_run_out=first.resource,
        raise_setting=f"{dotted(path)} ({flag_of(path)})",
        needed=first.needed,
        capacity=first.capacity,
    )


def _notes(resolved: Resolved) -> Iterator[str]:
    settings, plan = resolved.settings, resolved.plan
    if settings.model is None:
        yield "no model is named: give --model to see capacities and concurrency"
    if settings.engine.mode == "resident":
        ignored = [name for name in _RESIDENT_IGNORES if ("hisparse", name) in resolved.given]
        yield from (f"hisparse.{name} is not used in resident mode" for name in ignored)
    if settings.engine.reserve == "worst-case" and ("engine", "reserve_quantile") in resolved.given:
        yield "engine.reserve_quantile is not used while engine.reserve is worst-case"
    if settings.engine.device == "cuda":
        if resolved.model is not None and settings.engine.dtype_for(resolved.model.dtype) == "float32":
            yield "engine.dtype comes to float32, for which there are no compiled kernels: --dtype bfloat16 has them"
        yield "whether there is a CUDA device is looked at when the engine starts, not here"
    if plan is not None:
        on_cpu = settings.engine.device == "cpu"
        needed, there = plan.host_bytes + on_cpu * plan.all_device_bytes, main_memory_bytes()
        if needed > there:
            what = "weights and pools take" if on_cpu else "the host pool takes"
            yield (
                f"{what} {needed / GIB:.2f} GiB of main memory, and this machine has {there / GIB:.2f} GiB"
            )
