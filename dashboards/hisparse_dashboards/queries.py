"""PromQL built from catalogue entries, so that a misspelt metric cannot be written and a misused one is refused.

A :class:`Scope` says which series and over which window: a dashboard's variables, or everything in a rule. The free
functions combine expressions. Nothing here knows Grafana.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hisparse_metrics.metric import Kind, Metric

IDENTITY = ("job", "instance", "engine_name", "model_name", "dp_rank", "pp_rank", "tp_rank", "ep_rank")
"""The labels of one rank's series."""
TOKEN_OWNER = ("job", "instance", "engine_name", "dp_rank")
"""Whose tokens are its own: tensor-, pipeline- and expert-parallel ranks hold parts of the same tokens."""
ENGINE = ("instance", "engine_name")
"""One line on a panel that compares engines."""
OF_EXPORTERS = frozenset({"engine", "source", *IDENTITY[2:]})
"""Labels that an exporter or a rule gives to its series; all others come from the target."""
RATE_INTERVAL = "$__rate_interval"
"""The window that fits a dashboard's resolution; Grafana fills it in."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Label matchers and a rate window, applied to every series of one dashboard or one rule file."""

    matchers: tuple[str, ...]
    window: str

    def gauge(self, metric: Metric) -> str:
        """Select a level."""
        return self._select(metric, Kind.GAUGE, metric.name)

    def rate(self, metric: Metric) -> str:
        """Return a counter's increase per second."""
        return f"rate({self._select(metric, Kind.COUNTER, metric.name)}[{self.window}])"

    def counter(self, metric: Metric) -> str:
        """Select a counter's value itself: for counts of which one is too many already."""
        return self._select(metric, Kind.COUNTER, metric.name)

    def matching(self, *matchers: str) -> Scope:
        """Return this scope with further label matchers."""
        return replace(self, matchers=(*self.matchers, *matchers))

    def quantile(self, q: float, metric: Metric) -> str:
        """Estimate a quantile of a histogram over all selected ranks; NaN (a gap) where nothing was observed."""
        buckets = self._select(metric, Kind.HISTOGRAM, f"{metric.name}_bucket")
        return f"histogram_quantile({q:g}, sum by (le) (rate({buckets}[{self.window}])))"

    def increase(self, metric: Metric) -> str:
        """Return a counter's increase over the window."""
        return f"increase({self._select(metric, Kind.COUNTER, metric.name)}[{self.window}])"

    def buckets(self, metric: Metric) -> str:
        """Return how often a histogram's buckets were hit, per second, by upper bound: what a heatmap draws."""
        return f"sum by (le) (rate({self._select(metric, Kind.HISTOGRAM, f'{metric.name}_bucket')}[{self.window}]))"

    def seconds_per_second(self, metric: Metric) -> str:
        """Return the time that a histogram of durations observed, per second."""
        return f"rate({self._select(metric, Kind.HISTOGRAM, f'{metric.name}_sum')}[{self.window}])"

    def recorded(self, name: str) -> str:
        """Select a series of the recorded vocabulary."""
        return f"{name}{{{', '.join(self.matchers)}}}" if self.matchers else name

    def builtin(self, name: str) -> str:
        """Select a series that Prometheus itself makes, such as ``up``: it has the labels of its target alone."""
        of_target = (m for m in self.matchers if _label(m) not in OF_EXPORTERS)
        return replace(self, matchers=tuple(of_target)).recorded(name)

    def _select(self, metric: Metric, kind: Kind, series: str) -> str:
        if metric.kind is not kind:
            raise ValueError(f"{metric.name} is a {metric.kind.value}, not a {kind.value}")
        return f"{series}{{{', '.join(self.matchers)}}}" if self.matchers else series


def total(expr: str) -> str:
    """Add up all series."""
    return f"sum({expr})"


def largest_by(labels: tuple[str, ...], expr: str) -> str:
    """Keep the largest series of each group."""
    return f"max by ({', '.join(labels)}) ({expr})"


def smallest_by(labels: tuple[str, ...], expr: str) -> str:
    """Keep the smallest series of each group."""
    return f"min by ({', '.join(labels)}) ({expr})"


def ratio(numerator: str, denominator: str) -> str:
    """Divide; absent (a gap, not a zero) where the denominator is 0."""
    return f"{numerator} / ({denominator} > 0)"


def where(expr: str, condition: str) -> str:
    """Keep the series of ``expr`` for which ``condition`` holds on the same labels."""
    return f"{expr} and ({condition})"


def existing(scope: Scope, usage: Metric, capacity: Metric) -> str:
    """Select a usage where its pool exists: a pool of capacity 0 has none, rather than 0 %."""
    return where(scope.gauge(usage), f"{scope.gauge(capacity)} > 0")


def _label(matcher: str) -> str:
    return matcher.split("=")[0].rstrip("!")
