"""``hisparse plan``'s report as a picture: requests by their length in both modes, and what memory is taken for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from hisparse_engine.errors import HiSparseError
from hisparse_engine.memory_plan import GIB, MemoryPlan
from hisparse_engine.plan.report import PlanReport

_DEVICE, _HOST = "#0072B2", "#E69F00"
"""The tiers' colours on the dashboards."""
_INK, _FAINT, _GRID = "#333333", "#7F7F7F", "#EEEEEE"
_COLOURS = {
    "weights": "#999999",
    "KV rows": _DEVICE,
    "hot buffers": _DEVICE,
    "index keys": "#56B4E9",
    "residency maps": "#009E73",
    "step": "#CC79A7",
    "reserve for CUDA": "#DDDDDD",
    "free": "#FFFFFF",
}
_FONT = {"font.family": "sans-serif", "font.size": 10, "axes.edgecolor": _FAINT, "axes.labelcolor": _INK}


class PictureError(HiSparseError):
    """The picture cannot be drawn, or not be written."""


def save_picture(report: PlanReport, path: Path) -> None:
    """Write the picture as a PNG; :class:`PictureError` says what is missing."""
    try:
        matplotlib, figures = (importlib.import_module(f"matplotlib{part}") for part in ("", ".figure"))
    except ModuleNotFoundError:
        raise PictureError(
            "matplotlib is not installed, so there is no picture; run: pip install 'hisparse[report]'"
        ) from None
    with matplotlib.rc_context(_FONT):
        figure = figures.Figure(figsize=(11, 4.6), layout="constrained")
        figure.suptitle(_title(report), x=0.01, ha="left", fontsize=12, color=_INK)
        curve, memory = figure.subplots(1, 2, width_ratios=(5, 4))
        _draw_curve(curve, report)
        _draw_memory(memory, report)
        try:
            figure.savefig(path, format="png", dpi=120)
        except OSError as error:
            raise PictureError(f"cannot write {path}: {error.strerror}; choose another with --png") from error


def _title(report: PlanReport) -> str:
    budget, model = report.budget, report.blueprint.model
    return (
        f"{model.architecture}, {model.num_hidden_layers} layers, {report.blueprint.dtype}: "
        f"{budget.device / GIB:g} GiB of device memory, {budget.host / GIB:g} GiB for the host pool"
    )


def _draw_curve(axes: Any, report: PlanReport) -> None:
    contexts = [point.context for point in report.curve]
    for name, colour, counts in (
        ("hierarchical", _HOST, [point.hierarchical for point in report.curve]),
        ("resident", _DEVICE, [point.resident for point in report.curve]),
    ):
        shown = [count or float("nan") for count in counts]  # a logarithm has no place for 0
        axes.plot(contexts, shown, marker="o", ms=4, lw=2, color=colour, label=name)
    for point in report.curve:
        if point.resident:
            times = f"{point.hierarchical / point.resident:.1f}×"
            axes.annotate(times, (point.context, point.hierarchical), (0, 7), textcoords="offset points",
                          ha="center", fontsize=8, color=_INK)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(contexts[:-1], [f"{context // 1024}k" for context in contexts[:-1]])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.12)
    axes.set(xlabel="tokens of a request", ylabel="requests at the same time")
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _draw_memory(axes: Any, report: PlanReport) -> None:
    """Draw a bar for each mode's device memory, and one for the host pool."""
    budget, seen = report.budget, set()
    for name, mode in (("hierarchical", report.hierarchical), ("resident", report.resident)):
        left = 0.0
        for part, num_bytes in _coarse(mode.plan, budget.device).items():
            colour, width = _COLOURS[part], num_bytes / budget.device
            label = None if part in seen else part.replace("hot buffers", "hot buffers, KV rows")
            seen |= {part, "KV rows"} if part == "hot buffers" else {part}
            axes.barh(f"{name}\n{mode.requests} requests", width, left=left, color=colour, label=label,
                      edgecolor=_FAINT, lw=0.5)  # fmt: skip
            left += width
    used = report.hierarchical.plan.host_bytes / budget.host if report.hierarchical.plan else 0.0
    axes.barh("host pool", used, color=_HOST)
    axes.barh("host pool", 1 - used, left=used, color="#FFFFFF", edgecolor=_FAINT, lw=0.5)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    axes.set(xlim=(0, 1), xlabel="share of the memory given")
    axes.set_title(f"memory, for requests of {report.context:,} tokens", loc="left", fontsize=10, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False, fontsize=8)


def _coarse(plan: MemoryPlan | None, whole: int) -> dict[str, int]:
    """Return bytes by what a reader tells apart, what is free last."""
    found: dict[str, int] = {}
    for part in plan.all_parts() if plan is not None else ():
        if part.tier == "device":
            name = "step" if part.group == "step" else part.name
            name = "residency maps" if name.startswith(("residency", "slots by")) else name
            found[name] = found.get(name, 0) + part.num_bytes
    return found | {"free": whole - sum(found.values())}
