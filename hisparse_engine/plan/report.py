"""A budget's plan as values: both modes at one context, what bounds them, and a curve over contexts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from hisparse_engine.errors import CapacityError
from hisparse_engine.memory_plan import GIB, MemoryPlan
from hisparse_engine.models.weight_sizes import Weights
from hisparse_engine.plan.assemble import Blueprint
from hisparse_engine.plan.balance import Balance, Budget

SHORTEST_CONTEXT = 4096


class Point(NamedTuple):
    """Requests of ``context`` tokens at the same time, each mode's pools balanced for just that length."""

    context: int
    hierarchical: int
    resident: int


@dataclass(frozen=True)
class ModePlan:
    """One mode's best plan; ``plan`` is None where not even one request fits."""

    requests: int
    bounded_by: str
    plan: MemoryPlan | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        found: dict[str, Any] = {"requests": self.requests, "bounded_by": self.bounded_by}
        if self.plan is not None:
            found |= asdict(self.plan.sizes) | {
                "max_running_requests": self.plan.max_running_requests,
                "device_bytes": self.plan.all_device_bytes,
                "host_bytes": self.plan.host_bytes,
                "parts": [part.as_dict() for part in self.plan.all_parts()],
            }
        return found


@dataclass(frozen=True)
class PlanReport:
    """All of it."""

    blueprint: Blueprint
    weights: Weights
    budget: Budget
    context: int
    hierarchical: ModePlan
    resident: ModePlan
    curve: tuple[Point, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; sizes in bytes and tokens."""
        model = self.blueprint.model
        return {
            "fits": True,
            "model": {
                "architecture": model.architecture,
                "num_hidden_layers": model.num_hidden_layers,
                "num_full_indexer_layers": model.num_full_indexer_layers,
                "kv_row_dim": model.kv_row_dim,
                "index_head_dim": model.index_head_dim,
                "index_topk": model.index_topk,
                "max_position_embeddings": model.max_position_embeddings,
            },
            "dtype": self.blueprint.dtype,
            "kv_cache_dtype": self.blueprint.kv_cache_dtype,
            "weights": {
                "bytes": self.weights.num_bytes,
                "source": self.weights.source,
                "by_kind": dict(self.weights.by_kind),
            },
            "budget": {"device_bytes": self.budget.device, "host_bytes": self.budget.host},
            "context": self.context,
            "hierarchical": self.hierarchical.as_dict(),
            "resident": self.resident.as_dict(),
            "curve": [point._asdict() for point in self.curve],
        }


def make_report(balance: Balance, weights: Weights, context: int, *, resident: bool) -> PlanReport:
    """Plan both modes; :class:`CapacityError` when not one request of ``context`` tokens fits in the one asked for."""
    if not balance.requests(context, resident=resident):
        raise CapacityError(_why_not(balance, weights, context, resident=resident))
    return PlanReport(
        balance.blueprint,
        weights,
        balance.budget,
        context,
        hierarchical=_mode(balance, context, resident=False),
        resident=_mode(balance, context, resident=True),
        curve=tuple(_curve(balance)),
    )


def _mode(balance: Balance, context: int, *, resident: bool) -> ModePlan:
    plan = balance.best(context, resident=resident)
    requests = 0 if plan is None else plan.max_running_requests
    return ModePlan(requests, balance.bound(requests, context, resident=resident), plan)


def _curve(balance: Balance) -> Iterator[Point]:
    for context in contexts(balance.blueprint.model.max_position_embeddings):
        counts = (balance.requests(context, resident=resident) for resident in (False, True))
        yield Point(context, *counts)


def contexts(longest: int) -> list[int]:
    """Return the lengths of the curve: powers of two up to the model's longest sequence, and that."""
    found, context = [], min(SHORTEST_CONTEXT, longest)
    while context < longest:
        found.append(context)
        context *= 2
    return [*found, longest]


def _why_not(balance: Balance, weights: Weights, context: int, *, resident: bool) -> str:
    """Say which budget is too small, by how much, and what would fit."""
    budget, needed = balance.budget, balance.needed(1, context, resident=resident)
    mode = " in resident mode" if resident else ""
    request = f"one request of {context:,} tokens{mode}"
    if budget.device < weights.num_bytes:
        return (
            f"--gpu-memory-gib: got {budget.device / GIB:g}, and the weights alone take {up(weights.num_bytes)} GiB in "
            f"{balance.blueprint.dtype} (by {weights.source}); {up(needed.device)} would hold them and {request}; to plan "
            "for a rank's share of them, or another precision, give its size by --weights-gib"
        )
    shorter = _longest(balance, resident=resident)
    remedy = f", or a --context of at most {shorter}" if shorter else ""
    if budget.device < needed.device:
        return (
            f"--gpu-memory-gib: got {budget.device / GIB:g}, too little for {request} beside "
            f"{up(weights.num_bytes)} GiB of weights; set {up(needed.device)} or more{remedy}"
        )
    return (
        f"--host-memory-gib: got {budget.host / GIB:g}, too little for the KV rows of {request}; "
        f"set {up(needed.host)} or more{remedy}"
    )


def _longest(balance: Balance, *, resident: bool) -> int:
    """Return the longest sequence that fits alone; 0 when none does."""
    low, high = 0, balance.blueprint.model.max_position_embeddings
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if balance.requests(middle, resident=resident) else (low, middle - 1)
    return low


def up(num_bytes: int) -> str:
    """Return GiB, rounded up, so that what is set to them is enough."""
    return f"{-(-num_bytes * 100 // GIB) / 100:g}"
