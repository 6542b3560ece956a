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
"""One line on an overview panel."""


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

    def builtin(self, name: str) -> str:
        """Select a series that Prometheus itself makes, such as ``up``."""
        matchers = [m for m in self.matchers if m.startswith(("job", "instance"))]
        return f"{name}{{{', '.join(matchers)}}}" if matchers else name

    def _select(self, metric: Metric, kind: Kind, series: str) -> str:
        if metric.kind is not kind:
            raise ValueError(f"{metric.name} is a {metric.kind.value}, not a {kind.value}")
        return f"{series}{{{', '.join(self.matchers)}}}" if self.matchers else series


DASHBOARD = Scope(tuple(f'{label}=~"${label}"' for label in IDENTITY), "$__rate_interval")
"""What the dashboard's variables select, over the window that fits its resolution."""


def total(expr: str) -> str:
    """Add up all series."""
    return f"sum({expr})"


def largest_by(labels: tuple[str, ...], expr: str) -> str:
    """Keep the largest series of each group."""
    return f"max by ({', '.join(labels)}) ({expr})"


def once_per_token(expr: str) -> str:
    """Add up tokens or requests, counting those that several ranks of one engine share only once."""
    return total(largest_by(TOKEN_OWNER, expr))


def ratio(numerator: str, denominator: str) -> str:
    """Divide; absent (a gap, not a zero) where the denominator is 0."""
    return f"{numerator} / ({denominator} > 0)"


def where(expr: str, condition: str) -> str:
    """Keep the series of ``expr`` for which ``condition`` holds on the same labels."""
    return f"{expr} and ({condition})"


def existing(scope: Scope, usage: Metric, capacity: Metric) -> str:
    """Select a usage where its pool exists: a pool of capacity 0 has none, rather than 0 %."""
    return where(scope.gauge(usage), f"{scope.gauge(capacity)} > 0")
