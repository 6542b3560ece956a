"""The rank under the cursor: every figure, and its curves in whatever room there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from hisparse_metrics.top.draw.cells import columns, seconds_of
from hisparse_metrics.top.draw.columns import fitted
from hisparse_metrics.top.draw.flow import fact, flow
from hisparse_metrics.top.draw.meters import chart
from hisparse_metrics.top.draw.theme import Theme
from hisparse_metrics.top.history import CurvePoint
from hisparse_metrics.top.numbers import ahead, bandwidth, duration, full, percent, small, throughput
from hisparse_metrics.top.view import RankView
from hisparse_metrics.top.vocabulary import Severity

_SIDE_BY_SIDE = 96
_CHART_LEAST, _CHART_MOST = 2, 12
_GAP = 2


@dataclass(frozen=True, slots=True)
class _Curve:
    """One chart: what it shows, up to which value (its own largest without one), in which colour."""

    title: str
    value: Callable[[CurvePoint], float | None]
    figure: Callable[[float | None], str]
    color: str
    top: float | None = None
    panel: str = ""


_CURVES = (
    _Curve("cpu token usage", lambda p: p.host_usage, percent, "host", 1.0, "host-usage"),
    _Curve("gen throughput (token/s)", lambda p: p.tokens_per_second, throughput, "good"),
    _Curve("hit ratio", lambda p: p.hit_ratio, lambda v: percent(v, 1), "device", 1.0, "hit-ratio"),
    _Curve("gpu token usage", lambda p: p.device_usage, percent, "device", 1.0),
)
"""Most important first: the last ones are given up where there is no room."""


def detail(rank: RankView, width: int, height: int, theme: Theme, interval: float, alone: bool) -> list[Text]:
    """Return at most ``height`` lines; none where not even the figures fit."""
    lines = [_rule(rank, width, theme), *flow(_facts(rank, theme, alone), width)]
    if len(lines) > height:
        return []
    return lines + _charts(rank, width, height - len(lines), theme, interval)


def _rule(rank: RankView, width: int, theme: Theme) -> Text:
    what = f" {rank.name}{f'  {rank.about}' if rank.about else ''} "
    text = Text(no_wrap=True).append(theme.glyphs.rule * 2, "dim").append(what, "bold")
    text.truncate(width, overflow="ellipsis")
    return text.append(theme.glyphs.rule * (width - text.cell_len), "dim")


def _facts(rank: RankView, theme: Theme, alone: bool) -> list[Text]:
    """Return the rank's figures; what the head shows already is left out where the rank is ``alone``."""
    facts = [
        fact("step p50", small(rank.step_p50), 6),
        fact("p99", small(rank.step_p99), 6),
        fact("last step", "-" if rank.since_step is None else f"{duration(rank.since_step)} ago", 9),
        fact("retractions", full(rank.retractions)),
        fact("up for", duration(rank.uptime), 6),
    ]
    for label, count in (("verify mismatches", rank.mismatches), ("invariant violations", rank.violations)):
        if count:
            facts.append(fact(label, Text(f"{full(count)}!", theme.alarm(Severity.CRITICAL))))
    if alone:
        return facts
    requests = f"{full(rank.running)} running, {full(rank.staging)} staging, {full(rank.waiting)} waiting"
    return [
        fact("", requests, 32),
        fact("#gpu-token", _of(rank.device_tokens, rank.device_capacity)),
        fact("spare", full(rank.device_spare), 6),
        fact("#cpu-token", _of(rank.host_tokens, rank.host_capacity)),
        fact("reserved", full(rank.host_reserved), 6),
        fact("full in", ahead(rank.seconds_to_full), 6),
        fact("to gpu", bandwidth(rank.host_to_device), 10),
        fact("to cpu", bandwidth(rank.device_to_host), 10),
        *facts,
    ]


def _of(used: float | None, capacity: float | None) -> str:
    return f"{full(used)} of {full(capacity)}" if capacity else full(used)


def _charts(rank: RankView, width: int, height: int, theme: Theme, interval: float) -> list[Text]:
    """Lay the charts out in two columns where the screen is wide, else one under the other."""
    per_line = 2 if width >= _SIDE_BY_SIDE else 1
    curves = [curve for curve in _CURVES if any(curve.value(point) is not None for point in rank.curve)]
    bands = min(height // (_CHART_LEAST + 1), -(-len(curves) // per_line))
    if bands < 1 or not curves:
        return []
    rows = min(height // bands - 1, _CHART_MOST)
    each = (width - _GAP * (per_line - 1)) // per_line
    shown = curves[: bands * per_line]
    drawn = [_chart(curve, rank, each, rows, theme, interval) for curve in shown]
    lines = []
    for band in range(0, len(drawn), per_line):
        beside = zip(*drawn[band : band + per_line], strict=True)
        lines += [Text(" " * _GAP, no_wrap=True).join(parts) for parts in beside]
    return lines


def _chart(curve: _Curve, rank: RankView, width: int, rows: int, theme: Theme, interval: float) -> list[Text]:
    seconds = seconds_of(rank.curve, width, interval)
    values = columns(rank.curve, curve.value, width, seconds)
    known = [value for value in map(curve.value, rank.curve) if value is not None]
    title = f"{curve.title} {curve.figure(curve.value(rank.curve[-1]))}"
    reach = f"{curve.figure(min(known))} to {curve.figure(max(known))}, {duration(seconds * width)}"
    if len(title) + 2 + len(reach) <= width:
        title = f"{title}{reach.rjust(width - len(title))}"
    return [fitted(title, width), *chart(values, rows, curve.top, curve.color, theme, curve.panel)]
