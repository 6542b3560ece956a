"""A summary as one page of text."""

from __future__ import annotations

from collections.abc import Iterator

from hisparse_metrics import catalogue
from hisparse_metrics.sidecar.log_clock import show
from hisparse_metrics.sidecar.plot import draw
from hisparse_metrics.sidecar.summary import THRESHOLDS, USAGES, Course, Summary

_EVENTS = {
    catalogue.RETRACTIONS: "requests retracted",
    catalogue.HOST_ALLOCATION_FAILURES: "host allocation failures",
    catalogue.DEVICE_ALLOCATION_FAILURES: "device buffer failures",
    catalogue.SYNCHRONOUS_SWAP_INS: "synchronous fallbacks",
    catalogue.ENGINE_STARTS: "engine starts",
    catalogue.ENGINE_CRASHES: "engine crashes",
    catalogue.PROMPT_TOKENS: "prompt tokens computed",
    catalogue.PREFIX_HIT_TOKENS: "prompt tokens from cache",
}


def render(summary: Summary, name: str) -> str:
    """Return the page."""
    return "\n".join([*_head(summary, name), *_usages(summary), *_events(summary), *_plots(summary)]) + "\n"


def _head(summary: Summary, name: str) -> Iterator[str]:
    lines = summary.log.lines
    yield f"{name}: {sum(lines.values())} lines, {lines['malformed']} malformed"
    yield f"  {summary.records['decode']} decode and {summary.records['prefill']} prefill records"
    if summary.records:
        yield f"  from {show(summary.first)} to {show(summary.last)}, {len(summary.log.ranks)} ranks"


def _usages(summary: Summary) -> Iterator[str]:
    for name, title in USAGES.items():
        if course := summary.courses.get(name):
            value, time = course.peak
            yield f"\n{title}: peak {value:.2f} at {show(time)}"
            yield from _above(course)


def _above(course: Course) -> Iterator[str]:
    for threshold in THRESHOLDS:
        yield f"  at or above {threshold:.2f}: {_duration(course.above[threshold])} (all ranks together)"


def _events(summary: Summary) -> Iterator[str]:
    yield ""
    for metric, title in _EVENTS.items():
        yield f"{summary.total(metric.name):>12}  {title}"


def _plots(summary: Summary) -> Iterator[str]:
    for name, title in USAGES.items():
        if course := summary.courses.get(name):
            yield f"\n{title}, highest of all ranks"
            yield from draw(course.times, course.values)
            yield f"     {show(course.times[0])} to {show(course.times[-1])}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
