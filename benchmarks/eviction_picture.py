"""The eviction study as a picture: misses over the optimum's, for every policy, buffer and kind of trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "exact LRU": "#0072B2",
    "binned LRU": "#56B4E9",
    "coarse bins": "#CC79A7",
    "CLOCK": "#009E73",
    "FIFO ring": "#E69F00",
    "random": "#999999",
    "optimum": "#333333",
}
_STYLE: Any = {"font.family": "sans-serif", "font.size": 9}
_DPI = 110


def save_picture(report: dict[str, Any], path: Path) -> None:
    """Write one panel for each trace, or for each set of layers that read the same text."""
    panels = grouped(report["traces"])
    columns = 4
    rows = -(-len(panels) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(12, 2.7 * rows), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)
        for axis, (name, traces) in zip(axes, panels.items(), strict=False):
            _draw(axis, name, traces)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis in axes[::columns]:
            axis.set_ylabel("misses a step")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=_DPI)


def grouped(traces: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Put the layers of one text together; a synthetic trace is alone."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for trace in traces:
        text, _, rest = trace["name"].partition(", layer ")
        name = f"{text}, {rest.partition(', ')[2]}" if rest else trace["name"]
        panels.setdefault(f"{trace['kind']}: {name}", []).append(trace)
    return panels


def _draw(axis: Axes, name: str, traces: list[dict[str, Any]]) -> None:
    for policy, colour in COLOURS.items():
        points: dict[float, list[float]] = {}
        for row in (row for trace in traces for row in trace["results"] if row["policy"] == policy):
            points.setdefault(row["factor"], []).append(row["misses"])
        means = [sum(values) / len(values) for values in points.values()]
        style = {"ls": "--", "lw": 1.2} if policy == "optimum" else {"lw": 1.6}
        if policy == "binned LRU":  # lies on exact LRU
            style = {"ls": ":", "lw": 3.0}
        axis.plot(list(points), means, marker="o", ms=3, color=colour, label=policy, **style)
    mean = sum(trace["changed"] for trace in traces) / len(traces)
    axis.set_title(f"{name}\n{mean:.0f} selections change a step", fontsize=9)
    axis.set(xlabel="buffer / top-k")
    axis.set_ylim(0, 1.06 * axis.get_ylim()[1])
    axis.grid(color="#EEEEEE")
    axis.spines[["top", "right"]].set_visible(False)
