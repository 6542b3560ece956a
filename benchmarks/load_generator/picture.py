"""A run as a picture: device and host usage over time with the events marked, and below it queue, throughput, latency.

All panels share their time axis, seconds since the run began. Colours are those of the dashboards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.load_generator.records import Outcome, Run, Sample
from benchmarks.load_generator.summary import percentile

DEVICE, HOST, RESERVED = "#0072B2", "#E69F00", "#CC79A7"
_INK, _FAINT, _GRID = "#333333", "#7F7F7F", "#EEEEEE"
_GOOD, _WAITING, _NEUTRAL = "#009E73", "#D55E00", "#56B4E9"
_BINS = 90
_LEAST_SECONDS = 1e-3
"""Tokens that are read together have no latency that anybody feels."""
_SIZE, _DPI = (11.0, 9.6), 110
_STYLE: Any = {
    "font.family": "sans-serif", "font.size": 10, "axes.edgecolor": _FAINT, "axes.labelcolor": _INK,
    "xtick.color": _INK, "ytick.color": _INK,
}  # fmt: skip
_NOT_OK = (Outcome.REJECTED, Outcome.ERROR, Outcome.CUT)


class _Row(NamedTuple):
    """Events of one kind. ``times`` takes them from a run."""

    name: str
    marker: str
    colour: str
    times: Callable[[Run], list[float]]


_EVENTS = (
    _Row("arrivals", "|", _INK, lambda run: [r.scheduled for r in run.records]),
    _Row("refusals (429)", "x", _WAITING, lambda run: [t for r in run.records for t in r.refused_at]),
    _Row("retractions", "v", RESERVED, lambda run: retraction_times(run.samples)),
    _Row("ended well", "|", _GOOD, lambda run: [r.ended for r in run.records if r.outcome is Outcome.OK]),
    _Row("ended badly", "X", _WAITING, lambda run: [r.ended for r in run.records if r.outcome in _NOT_OK]),
)


def save_picture(run: Run, path: Path, name: str = "") -> None:
    """Write the picture as a PNG."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        panels = figure.subplots(5, 1, sharex=True, height_ratios=(3.4, 1.5, 1.7, 1.7, 2.2))
        usage, events, requests, throughput, latency = panels
        figure.suptitle(_title(run, name), x=0.01, ha="left", fontsize=12, color=_INK)
        _draw_usage(usage, run.samples)
        _draw_events(events, run)
        _draw_requests(requests, run.samples)
        _draw_throughput(throughput, run)
        _draw_latency(latency, run)
        end = max((*(r.ended for r in run.records), *(s.time for s in run.samples), 1.0))
        latency.set(xlim=(-0.01 * end, 1.01 * end), xlabel="seconds since the run began")
        figure.align_ylabels([usage, requests, throughput, latency])
        figure.savefig(path, format="png", dpi=_DPI)


def retraction_times(samples: Sequence[Sample]) -> list[float]:
    """Return one time for each retraction: that of the sample that first counts it."""
    pairs = pairwise(sample for sample in samples if sample.retractions is not None)
    return [b.time for a, b in pairs for _ in range(round((b.retractions or 0) - (a.retractions or 0)))]


def _draw_usage(axes: Axes, samples: Sequence[Sample]) -> None:
    times, values = _course(samples, lambda s: s.host_usage)
    axes.fill_between(times, values, color=HOST, alpha=0.15, lw=0)
    _line(axes, samples, lambda s: s.host_usage, HOST, "host", lw=2.2)
    _line(axes, samples, _promised, RESERVED, "host, with what is promised", lw=1.2, ls=(0, (4, 2)))
    _line(axes, samples, lambda s: s.device_usage, DEVICE, "device", lw=2.2)
    axes.axhline(1, color=_FAINT, lw=0.8, ls=(0, (4, 3)), zorder=1)
    top = max((1.0, *(v for v in _course(samples, _promised)[1])))
    axes.set(ylabel="used / capacity", ylim=(0, 1.06 * top))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    _finish(axes, "no figures of the server's memory")


def _promised(sample: Sample) -> float | None:
    if sample.host_tokens is None or sample.host_reserved is None or not sample.host_capacity:
        return None
    return (sample.host_tokens + sample.host_reserved) / sample.host_capacity


def _draw_events(axes: Axes, run: Run) -> None:
    for row, event in enumerate(_EVENTS):
        times = event.times(run)
        width = 1.1 if event.marker in "|x" else 0
        axes.plot(
            times,
            [row] * len(times),
            event.marker,
            color=event.colour,
            ms=7 if width else 6,
            mew=width,
            alpha=0.75,
        )
        axes.annotate(str(len(times)), (1, row), (4, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize=8, color=_INK if times else _FAINT)  # fmt: skip
    axes.set_yticks(range(len(_EVENTS)), [event.name for event in _EVENTS], fontsize=9)
    axes.set_ylim(len(_EVENTS) - 0.4, -0.6)
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_requests(axes: Axes, samples: Sequence[Sample]) -> None:
    _line(axes, samples, lambda s: s.running, _GOOD, "running")
    _line(axes, samples, lambda s: s.staging, _NEUTRAL, "in prefill")
    _line(axes, samples, lambda s: s.waiting, _WAITING, "waiting")
    axes.set(ylabel="requests")
    axes.set_ylim(bottom=0)
    _finish(axes, "no figures of the server's requests")


def _draw_throughput(axes: Axes, run: Run) -> None:
    width = _width(run)
    arrivals = [(time, 1.0) for record in run.records for time in record.tokens_at]
    bins = _binned(arrivals, width)
    steps = [len(bins.get(number, ())) / width for number in range(max(bins, default=-1) + 1)]
    if steps:
        edges = [width * number for number in range(len(steps) + 1)]
        axes.stairs(steps, edges, color=_GOOD, lw=1.6, label="tokens of answers, as they came")
    computed = _rates(run.samples, lambda s: s.computed_prompt_tokens)
    if computed:
        axes.plot(*zip(*computed, strict=True), color=RESERVED, lw=1.4, label="prompt tokens computed")
    axes.set(ylabel="tokens / s")
    axes.set_yscale("symlog", linthresh=10)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(bottom=0)
    _finish(axes, "no token came")


def _draw_latency(axes: Axes, run: Run) -> None:
    firsts = [(r.tokens_at[0], r.ttft) for r in run.records if r.ttft is not None]
    if firsts:
        axes.plot(
            *zip(*firsts, strict=True), "o", color=DEVICE, ms=4, alpha=0.7, mew=0, label="time to first token"
        )
    gaps = [(time, gap) for r in run.records for time, gap in zip(r.tokens_at[1:], r.gaps, strict=True)]
    width, bins = _width(run), _binned(gaps, _width(run))
    numbers = range(max(bins, default=-1) + 1)
    for share, style in ((50, "-"), (99, ":")) if bins else ():
        values = [percentile(bins[number], share) if number in bins else nan for number in numbers]
        times = [width * (number + 0.5) for number in numbers]
        axes.plot(times, values, style, color=_WAITING, lw=1.4, label=f"between tokens, p{share}")
    axes.set(ylabel="latency", yscale="log" if firsts else "linear")
    if firsts:
        axes.set_ylim(bottom=max(axes.get_ylim()[0], _LEAST_SECONDS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _seconds(value)))
    _finish(axes, "no token came")


def _line(
    axes: Axes, samples: Sequence[Sample], value: Callable[[Sample], float | None], colour: str, label: str, **style: Any
) -> None:  # fmt: skip
    times, values = _course(samples, value)
    if times:
        axes.plot(times, values, color=colour, label=label, **{"lw": 1.6, **style})


def _course(
    samples: Sequence[Sample], value: Callable[[Sample], float | None]
) -> tuple[list[float], list[float]]:
    found = [(sample.time, one) for sample in samples if (one := value(sample)) is not None]
    return [time for time, _ in found], [one for _, one in found]


def _rates(samples: Sequence[Sample], value: Callable[[Sample], float | None]) -> list[tuple[float, float]]:
    """Return how fast a counter rose from each sample to the next."""
    points = list(zip(*_course(samples, value), strict=True))
    return [(t, (b - a) / (t - s)) for (s, a), (t, b) in pairwise(points) if t > s]


def _width(run: Run) -> float:
    """Return the seconds that are drawn as one."""
    return max(1.0, max((record.ended for record in run.records), default=0.0) / _BINS)


def _binned(
    points: Iterator[tuple[float, float]] | list[tuple[float, float]], width: float
) -> dict[int, list[float]]:
    bins: dict[int, list[float]] = {}
    for time, value in points:
        bins.setdefault(int(time / width), []).append(value)
    return bins


def _finish(axes: Axes, nothing: str) -> None:
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False, borderaxespad=0.1, fontsize=9
        )
    else:
        axes.text(0.5, 0.5, nothing, transform=axes.transAxes, ha="center", color=_FAINT)


def _seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"


def _title(run: Run, name: str) -> str:
    load, summary = run.about["settings"]["load"], run.summary
    kind = f"{load['rate']:g} chats/s" if load["rate"] else f"{load['concurrency']} clients"
    return (
        f"{name or run.about['server']['model']}   {kind}, {len(run.records)} requests in {summary['wall_s']:.0f} s, "
        f"{summary['output_tokens_per_s']:.0f} tokens/s"
    )
