"""One rank's recent past, bounded: what rates, quantiles, projections and curves are made of. Knows no clock.

A restart, or a counter that falls, begins a new past for everything that is a difference; the curves go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hisparse_metrics import catalogue
from hisparse_metrics.histogram import quantile
from hisparse_metrics.metric import Metric
from hisparse_metrics.top.reading import Engine, RankSample

_COUNTERS = (
    catalogue.GENERATION_TOKENS, catalogue.PROMPT_TOKENS, catalogue.SWAP_IN_LOOKUPS, catalogue.SWAP_IN_HITS,
    catalogue.HOST_TO_DEVICE_BYTES, catalogue.DEVICE_TO_HOST_BYTES, catalogue.DECODE_STEPS, catalogue.RETRACTIONS,
)  # fmt: skip
_POINTS = 300
"""Points kept for differences, whatever the window: they are thinned to fit."""
CURVE_SECONDS = 900.0
_CURVE_POINTS = 900


class Pace(NamedTuple):
    """How an engine's counters move: seconds to difference them over, and before which 0 is not believed."""

    window: float
    patience: float = 0.0


_PACES = {
    Engine.HISPARSE: Pace(5.0),
    Engine.SGLANG: Pace(30.0),
    Engine.VLLM: Pace(600.0, patience=120.0),
}
"""vLLM's HiSparse counters move about once a minute: over less than several of those, a rate is a saw-tooth."""

_FIT_SECONDS = 60.0
_FIT_AT_LEAST = 10.0
"""Of the host usage's past: what a projection looks at, and how much of it there must be."""


class CurvePoint(NamedTuple):
    """What is drawn over time. ``None`` is a gap."""

    moment: float
    device_usage: float | None
    host_usage: float | None
    hit_ratio: float | None
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class _Point:
    moment: float
    sample: RankSample


class RankHistory:
    """Add every sample of a rank; ask what has been going on lately."""

    def __init__(self, engine: Engine) -> None:
        self._pace = _PACES[engine]
        self._spaced: deque[_Point] = deque()
        self._newest: _Point | None = None
        self._usages: deque[tuple[float, float]] = deque(maxlen=_POINTS)
        self._curve: deque[CurvePoint] = deque(maxlen=_CURVE_POINTS)
        self._stepped_at: float | None = None

    def add(self, sample: RankSample, moment: float, usage: float | None) -> None:
        """Remember ``sample``; ``usage`` is the host pool's."""
        before = self._newest
        if before is not None and _restarted(before.sample, sample):
            self._spaced.clear()
            self._usages.clear()
            self._stepped_at = None
        elif before is not None and _last_step(sample) != _last_step(before.sample):
            self._stepped_at = moment
        self._newest = _Point(moment, sample)
        if not self._spaced or moment - self._spaced[-1].moment >= self._pace.window / _POINTS:
            self._spaced.append(self._newest)
        while len(self._spaced) > 2 and self._spaced[1].moment <= moment - self._pace.window:
            self._spaced.popleft()
        if usage is None:
            self._usages.clear()
        elif not self._usages or moment - self._usages[-1][0] >= _FIT_SECONDS / _POINTS:
            self._usages.append((moment, usage))

    def draw_on(self, point: CurvePoint) -> None:
        """Lengthen the curves by one point, unless the last one is too near."""
        if not self._curve or point.moment - self._curve[-1].moment >= 0.9 * CURVE_SECONDS / _CURVE_POINTS:
            self._curve.append(point)

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """The last :data:`CURVE_SECONDS`, oldest first."""
        return tuple(self._curve)

    def since_seen_stepping(self) -> float | None:
        """Return seconds since the last step was seen to change, by our clock: right whatever the engine's clock says."""
        if self._stepped_at is None or self._newest is None:
            return None
        return self._newest.moment - self._stepped_at

    def rate(self, metric: Metric) -> float | None:
        """Return a counter's increase per second; ``None`` until that can be said."""
        seconds, increase = self._seconds(), self.increase(metric)
        if increase is None or seconds <= 0 or (not increase and seconds < self._pace.patience):
            return None
        return increase / seconds

    def increase(self, metric: Metric) -> float | None:
        """Return how much a counter rose within the window."""
        if self._newest is None:
            return None
        first, last = self._spaced[0].sample.value(metric), self._newest.sample.value(metric)
        return None if first is None or last is None else last - first

    def step_quantile(self, q: float) -> float | None:
        """Estimate a quantile of the decode steps within the window, as Prometheus does; ``None`` without steps."""
        if self._newest is None:
            return None
        first, last = self._spaced[0].sample.steps, self._newest.sample.steps
        return quantile(q, last.since(first) if first and last and first.bounds == last.bounds else last)

    def usage_growth(self) -> float | None:
        """Return the host usage's rise per second while it rises; ``None`` while it is flat, falls, or just fell."""
        if self._newest is None:
            return None
        recent = [point for point in self._usages if point[0] >= self._newest.moment - _FIT_SECONDS]
        if not recent or recent[-1][0] - recent[0][0] < _FIT_AT_LEAST:
            return None
        later = recent[2 * len(recent) // 3 :]
        growth, lately = slope(recent), slope(later)
        return growth if growth > 0 and lately > 0 else None

    def _seconds(self) -> float:
        assert self._newest is not None
        return self._newest.moment - self._spaced[0].moment


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope; 0 for fewer than two moments."""
    n = len(points)
    mean_x, mean_y = (sum(column) / n for column in zip(*points, strict=True)) if n else (0.0, 0.0)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _restarted(before: RankSample, now: RankSample) -> bool:
    started = catalogue.ENGINE_START_TIME_SECONDS
    if before.value(started) != now.value(started):
        return True
    pairs = ((before.value(metric), now.value(metric)) for metric in _COUNTERS)
    return any(old is not None and new is not None and new < old for old, new in pairs)


def _last_step(sample: RankSample) -> float | None:
    return sample.value(catalogue.ENGINE_LAST_STEP_TIMESTAMP_SECONDS)
