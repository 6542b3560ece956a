"""A summary as a picture: the usages over time, thresholds, and when requests were retracted or the engine crashed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from hisparse_metrics.sglang import EventKind
from hisparse_metrics.sidecar.config import SidecarError
from hisparse_metrics.sidecar.log_clock import show
from hisparse_metrics.sidecar.summary import THRESHOLDS, USAGES, Course, Summary

COLUMNS = 600
_GAP_SECONDS = 120.0
"""A longer silence is shown as none: the line has a gap."""

_HOST, _DEVICE, _SINGLE = "#E69F00", "#0072B2", "#56B4E9"
"""The same as on the dashboards."""
_COLOURS = {"host_token_usage": _HOST, "device_token_usage": _DEVICE, "token_usage": _SINGLE}
_INK, _FAINT, _ALARM, _WARNING, _GOOD = "#333333", "#7F7F7F", "#D55E00", "#CC79A7", "#009E73"
_CRASHES = (EventKind.CRASH, EventKind.SCHEDULER_EXCEPTION)
_MARKED = {
    "starts": ((EventKind.SERVER_READY,), "^", _GOOD),
    "crashes": (_CRASHES, "X", _ALARM),
    "allocation failures": (
        (EventKind.HOST_ALLOCATION_FAILED, EventKind.DEVICE_ALLOCATION_FAILED),
        "s",
        _ALARM,
    ),
    "retractions": ((EventKind.RETRACTION,), "v", _WARNING),
}
_FONT = {"font.family": "sans-serif", "font.size": 10, "axes.edgecolor": _FAINT, "axes.labelcolor": _INK}


class Bucket(NamedTuple):
    """The lowest and highest value of some seconds, and the middle of these."""

    time: float
    low: float
    high: float


def save_picture(summary: Summary, name: str, path: Path) -> None:
    """Write the picture as a PNG; :class:`SidecarError` says what is missing."""
    try:
        matplotlib, figures = (importlib.import_module(f"matplotlib{part}") for part in ("", ".figure"))
    except ModuleNotFoundError:
        raise SidecarError(
            "matplotlib is not installed, so there is no picture; run: pip install 'hisparse[report]'"
        ) from None
    with matplotlib.rc_context(_FONT):
        figure = figures.Figure(figsize=(12, 5.6), layout="constrained")
        usages, events = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1.25))
        figure.suptitle(_title(summary, name), x=0.01, ha="left", fontsize=12, color=_INK)
        _draw_usages(usages, summary)
        _draw_events(events, summary)
        _draw_times(events, summary)
        try:
            figure.savefig(path, format="png", dpi=120)
        except OSError as error:
            raise SidecarError(f"cannot write {path}: {error.strerror}; choose another with --png") from error


def buckets(course: Course, begin: float, end: float) -> Iterator[list[Bucket]]:
    """Yield the stretches of a course without a gap, as lowest and highest value of every :data:`COLUMNS`-th of it."""
    width = max((end - begin) / COLUMNS, 1.0)
    found: dict[int, tuple[float, float]] = {}
    for time, value in zip(course.times, course.values, strict=True):
        low, high = found.get(column := int((time - begin) / width), (value, value))
        found[column] = (min(low, value), max(high, value))
    stretch: list[Bucket] = []
    for column in sorted(found):
        bucket = Bucket(begin + (column + 0.5) * width, *found[column])
        if stretch and bucket.time - stretch[-1].time > max(_GAP_SECONDS, 2 * width):
            yield stretch
            stretch = []
        stretch.append(bucket)
    if stretch:
        yield stretch


def _draw_usages(axes: Any, summary: Summary) -> None:
    for key, course in summary.courses.items():
        colour = _COLOURS[key]
        for number, stretch in enumerate(buckets(course, summary.first, summary.last)):
            times = _moments([bucket.time for bucket in stretch])
            high = [bucket.high for bucket in stretch]
            label = f"{USAGES[key]}, peak {course.peak[0]:.2f}" if number == 0 else None
            axes.fill_between(times, [bucket.low for bucket in stretch], high, color=colour, alpha=0.22, lw=0)
            axes.plot(times, high, color=colour, lw=1.6, label=label, marker="." if len(stretch) == 1 else "")
    for threshold in THRESHOLDS:
        axes.axhline(threshold, color=_FAINT, lw=0.8, ls=(0, (4, 3)), zorder=1)
        axes.annotate(f"{threshold:.2f}", (1, threshold), (4, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize=8, color=_FAINT)  # fmt: skip
    top = max((1.02, *(1.05 * course.peak[0] for course in summary.courses.values())))
    axes.set(ylabel="used / capacity", ylim=(0, top))
    for moment in _moments([time for kind in _CRASHES for time in summary.events.get(kind, ())]):
        axes.axvline(moment, color=_ALARM, lw=1, ls=":", zorder=1)
    axes.grid(axis="y", color="#EEEEEE")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if summary.courses:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, borderaxespad=0.2)
        note = "line: highest of all ranks; shade: down to the lowest"
        axes.set_title(note, loc="right", fontsize=8, color=_FAINT)
    else:
        axes.text(0.5, 0.5, "no record with a usage", transform=axes.transAxes, ha="center", color=_FAINT)


def _draw_events(axes: Any, summary: Summary) -> None:
    """Draw a row of marks for each kind of event; the number beside it counts lines."""
    for row, (kinds, marker, colour) in enumerate(_MARKED.values()):
        times = [time for kind in kinds for time in summary.events.get(kind, ())]
        axes.plot(_moments(times), [row] * len(times), marker, color=colour, ms=6, alpha=0.8, mew=0)
        axes.annotate(str(len(times)), (1, row), (4, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize=8, color=_INK if times else _FAINT)  # fmt: skip
    axes.set_yticks(range(len(_MARKED)), list(_MARKED), fontsize=9)
    axes.set_ylim(-0.6, len(_MARKED) - 0.4)
    axes.grid(axis="y", color="#EEEEEE")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_times(axes: Any, summary: Summary) -> None:
    dates = importlib.import_module("matplotlib.dates")
    locator = dates.AutoDateLocator(minticks=4, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    first, last = _moments([summary.first, summary.last])
    margin = max((last - first) / 100, timedelta(seconds=2))
    axes.set_xlim(first - margin, last + margin)


def _title(summary: Summary, name: str) -> str:
    records, ranks = sum(summary.records.values()), len(summary.log.ranks)
    span = f"{show(summary.first)} to {show(summary.last)}"
    return f"{name}   {span}, {records:,} record{'s' * (records != 1)} of {ranks} rank{'s' * (ranks != 1)}"


def _moments(times: Sequence[float]) -> list[datetime]:
    """Return the log's own times: it has no time zone."""
    return [datetime.fromtimestamp(time, UTC).replace(tzinfo=None) for time in times]
