"""Pictures of `decode.py`'s results: throughput over concurrency, latency against throughput, and a step's parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.decode_ablation import ATTEND, REST, SELECT, SWAP_IN
from benchmarks.decode_results import best

Row = dict[str, Any]
COLOURS = {"hierarchical": "#E69F00", "resident": "#0072B2"}
_OF_THE_MODEL = ("projections", "experts", "norms and rotation", "sampling")
_PARTS = {
    "projections": "#0072B2",
    "experts": "#56B4E9",
    "norms and rotation": "#7FB9DB",
    "sampling": "#D55E00",
    REST: "#999999",
    SELECT: "#009E73",
    ATTEND: "#CC79A7",
    SWAP_IN: "#E69F00",
}
_INK, _FAINT, _GRID = "#333333", "#7F7F7F", "#EEEEEE"
_STYLE: Any = {"font.family": "sans-serif", "font.size": 9, "axes.edgecolor": _FAINT, "axes.labelcolor": _INK}
_DPI = 110


def save_pictures(rows: list[Row], folder: Path) -> list[Path]:
    """Write a set of pictures for each model and, but for its usual one, each budget; return their paths."""
    good = [row for row in rows if "error" not in row]
    paths = []
    for model in sorted({row["model"] for row in good}):
        of_model = [row for row in good if row["model"] == model]
        usual = _usual(of_model, "device_gib")[0].get("device_gib") or 0.0
        for budget in sorted({row.get("device_gib") or 0.0 for row in of_model}):
            of_budget = [row for row in of_model if (row.get("device_gib") or 0.0) == budget]
            name = f"perf-decode-{model}" + ("" if budget == usual else f"-{budget:g}gib")
            paths += _save(_usual(of_budget, "index_keys"), folder / name)
    return paths


def _save(rows: list[Row], start: Path) -> list[Path]:
    curves = _usual(rows, "selection")
    paths = []
    for kind, draw in _KINDS.items():
        path = start.with_name(f"{start.name}-{kind}.png")
        if draw(curves if kind != "misses" else rows, path):
            paths.append(path)
    return paths


def _usual(rows: list[Row], key: str) -> list[Row]:
    """Return the rows with the commonest value of ``key``: curves are of one kind of run."""
    values = [str(row.get(key)) for row in rows]
    commonest = max(sorted(set(values)), key=values.count)
    return [row for row, value in zip(rows, values, strict=True) if value == commonest]


def _throughput(rows: list[Row], path: Path) -> bool:
    def draw(axis: Axes, of_context: list[Row]) -> None:
        for mode, colour in COLOURS.items():
            points = _points(of_context, mode, "concurrency", "tokens_per_second")
            if not points:
                continue
            axis.plot(*zip(*points, strict=True), marker="o", ms=3.5, color=colour, label=mode)
            last = points[-1]
            if mode == "resident":
                axis.plot([last[0], _most(of_context)], [last[1]] * 2, ls=(0, (2, 2)), lw=1.2, color=colour)
                axis.annotate(
                    f"resident is full at {last[0]}",
                    last,
                    (4, -12),
                    textcoords="offset points",
                    fontsize=8,
                    color=colour,
                )
        ratio = _ratio(of_context)
        if ratio:
            axis.text(
                0.98, 0.04, f"{ratio:.1f} × resident's best", transform=axis.transAxes, ha="right", color=_INK
            )
        axis.set(xscale="log", yscale="log", xlabel="requests at a time")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.set_xticks(_powers(_most(of_context)), [str(n) for n in _powers(_most(of_context))])
        axis.minorticks_off()

    return _panels(rows, path, draw, "tokens / s")


def _latency(rows: list[Row], path: Path) -> bool:
    def draw(axis: Axes, of_context: list[Row]) -> None:
        for mode, colour in COLOURS.items():
            for key, style in (("itl_p50_ms", "-"), ("itl_p99_ms", ":")):
                points = _points(of_context, mode, "tokens_per_second", key)
                if points:
                    label = f"{mode}, {key[4:7]}"
                    axis.plot(*zip(*points, strict=True), style, marker="o", ms=3, color=colour, label=label)
        axis.set(xscale="log", xlabel="tokens / s")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(bottom=0)

    return _panels(rows, path, draw, "between two tokens, ms")


def _misses(rows: list[Row], path: Path) -> bool:
    """Throughput at the most requests, for every miss rate that was measured, by the misses that there were."""
    full = [row for row in rows if row["most"] and row["mode"] == "hierarchical"]
    rates: dict[int, set[str]] = {}
    for row in full:
        rates.setdefault(row["context"], set()).add(row["selection"])
    full = [row for row in full if len(rates[row["context"]]) >= 3]
    if not full:
        return False

    def draw(axis: Axes, of_context: list[Row]) -> None:
        points = sorted((_misses_of(row), row["tokens_per_second"]) for row in of_context)
        axis.plot(
            *zip(*points, strict=True),
            marker="o",
            ms=3.5,
            color=COLOURS["hierarchical"],
            label="hierarchical",
        )
        for row in of_context:
            if row["selection"] == "own indexer":
                at = _misses_of(row), row["tokens_per_second"]
                axis.annotate(
                    "own indexer,\nrandom weights",
                    at,
                    (-4, -24),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8,
                )
        requests = max(row["concurrency"] for row in of_context)
        axis.set(
            xlabel=f"misses a step, request and layer; {requests} requests", ylim=(0, 1.1 * points[0][1])
        )

    return _panels(full, path, draw, "tokens / s")


def _misses_of(row: Row) -> float:
    return float(row["misses_per_step"] / row["concurrency"] / row["layers"])


def _parts(rows: list[Row], path: Path) -> bool:
    """One bar for each step that was taken apart, as long as the step."""
    apart = [row for row in rows if "parts_ms" in row]
    if not apart:
        return False
    apart.sort(key=lambda row: (row["context"], row["concurrency"], row["mode"] != "resident"))
    bars = [whole_parts(row) for row in apart]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 1.4 + 0.42 * len(apart)), layout="constrained")
        axis = figure.subplots()
        left = np.zeros(len(apart))
        for part, colour in _PARTS.items():
            widths = np.array([max(0.0, bar.get(part, 0.0)) for bar in bars])
            if widths.any():
                axis.barh(
                    range(len(apart)), widths, left=left, color=colour, edgecolor="white", lw=0.5, label=part
                )
            left += widths
        names = [f"{_kilo(row['context'])}, {row['concurrency']} requests, {row['mode']}" for row in apart]
        axis.set_yticks(range(len(apart)), names)
        axis.invert_yaxis()
        axis.set_xlabel("ms a step")
        _finish(axis)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        figure.savefig(path, dpi=_DPI)
    return True


def whole_parts(row: Row) -> dict[str, float]:
    """Return a step's parts; the model's own split as its kernels' times are, where these are known."""
    parts, kernels = dict(row["parts_ms"]), row.get("model_ms", {})
    named = {part: kernels[part] for part in _OF_THE_MODEL if kernels.get(part)}
    if named:
        model, total = parts.pop(REST), sum(kernels.values())
        parts |= {part: model * ms / total for part, ms in named.items()}
        parts[REST] = model * (total - sum(named.values())) / total
    return parts


_KINDS: dict[str, Callable[[list[Row], Path], bool]] = {
    "throughput": _throughput,
    "latency": _latency,
    "misses": _misses,
    "parts": _parts,
}


def _panels(rows: list[Row], path: Path, draw: Callable[[Axes, list[Row]], None], ylabel: str) -> bool:
    contexts = sorted({row["context"] for row in rows})
    if not contexts:
        return False
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.8 * len(contexts) + 0.6, 3.6), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(contexts)))
        for axis, context in zip(axes, contexts, strict=True):
            draw(axis, [row for row in rows if row["context"] == context])
            axis.set_title(f"{_kilo(context)} tokens of context", fontsize=10)
            _finish(axis)
        axes[0].set_ylabel(ylabel)
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=_DPI)
    return True


def _points(rows: list[Row], mode: str, x: str, y: str) -> list[tuple[float, float]]:
    found = sorted((row for row in rows if row["mode"] == mode), key=lambda row: row["concurrency"])
    return [(row[x], row[y]) for row in found]


def _ratio(rows: list[Row]) -> float | None:
    """Return the highest throughput of hierarchical mode over resident mode's."""
    pair = [best(rows, mode=mode) for mode in COLOURS]
    return pair[0]["tokens_per_second"] / pair[1]["tokens_per_second"] if pair[0] and pair[1] else None


def _most(rows: list[Row]) -> int:
    return max(int(row["concurrency"]) for row in rows)


def _powers(most: int) -> list[int]:
    return [1 << power for power in range(0, most.bit_length(), 2)]


def _kilo(context: int) -> str:
    return f"{context // 1024}k"


def _finish(axis: Axes) -> None:
    axis.grid(color=_GRID)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
