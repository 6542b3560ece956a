"""``hisparse plan``'s report as text: the memory table, requests at the same time, and their curve as bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from hisparse_engine.memory_plan import GIB
from hisparse_engine.plan.report import ModePlan, PlanReport, Point
from hisparse_engine.plan.text import gib, memory_table, plain_console

_BAR = 48
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_plan(report: PlanReport, command: str, *, resident: bool, console: Console | None = None) -> None:
    """Print the plan of one mode, then both modes' requests, and ``command``, which starts an engine with the plan."""
    console = plain_console(console)
    chosen = report.resident if resident else report.hierarchical
    assert chosen.plan is not None, "the report is of a mode in which at least one request fits"
    console.print(_model_line(report), soft_wrap=True, markup=False)
    console.print(memory_table(chosen.plan, device_bytes=report.budget.device, host_bytes=report.budget.host))
    for line in (*_concurrency(report), "", *curve_lines(report.curve, unicode=_has_blocks(console))):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"\nStart it with\n  {command}", soft_wrap=True, markup=False)


def _model_line(report: PlanReport) -> str:
    model = report.blueprint.model
    rows = ", KV rows in float8" if report.blueprint.kv_cache_dtype == "float8" else ""
    return (
        f"{model.architecture}: {model.num_hidden_layers} layers, {model.num_full_indexer_layers} index groups, rows of "
        f"{model.kv_row_dim} and index keys of {model.index_head_dim} elements, top-k {model.index_topk}, "
        f"{model.max_position_embeddings:,} positions, {report.blueprint.dtype}{rows}\n"
        f"weights: {gib(report.weights.num_bytes)} GiB by {report.weights.source}\n"
    )


def _concurrency(report: PlanReport) -> Iterator[str]:
    yield (
        f"Requests of {report.context:,} tokens at the same time, with {report.budget.device / GIB:g} GiB of device "
        f"memory and {report.budget.host / GIB:g} GiB for the host pool"
    )
    yield f"  hierarchical {_mode(report.hierarchical)}{_times(report)}"
    yield f"  resident     {_mode(report.resident)}"


def _mode(found: ModePlan) -> str:
    return f"{found.requests:>7,}   bounded by {found.bounded_by}"


def _times(report: PlanReport) -> str:
    if not report.resident.requests:
        return ""
    return f"; {report.hierarchical.requests / report.resident.requests:.1f} × resident mode's"


def curve_lines(curve: Sequence[Point], *, unicode: bool) -> Iterator[str]:
    """Yield the curve as two bars a context, to one scale."""
    most = max(max(point.hierarchical, point.resident) for point in curve)
    yield "Requests at the same time by their length, pools balanced for each"
    for point in curve:
        for name, count in (("hierarchical", point.hierarchical), ("resident", point.resident)):
            context = f"{point.context:,}" if name == "hierarchical" else ""
            yield f"  {context:>9}  {name:<12} {count:>7,} {bar(count / most if most else 0, unicode=unicode)}".rstrip()


def bar(share: float, *, unicode: bool) -> str:
    """Return a bar of ``share`` of the full length, to an eighth of a character where there are blocks."""
    eighths = round(share * _BAR * 8)
    if not unicode:
        return "#" * round(share * _BAR)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _has_blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
