"""Alerts about the logs that stand in for metrics: are they read, understood, and fresh."""

from __future__ import annotations

from collections.abc import Iterator

from hisparse_dashboards.alerts.wording import DURATION, NUMBER, SOURCE
from hisparse_dashboards.config import Config, Thresholds
from hisparse_dashboards.queries import Scope
from hisparse_dashboards.rules import Alert
from hisparse_metrics import catalogue as m

PER_SOURCE = "on (job, instance, source)"
SUM = "sum by (job, instance, source)"
EVERYTHING = Scope((), "15m")


def alerts(config: Config) -> Iterator[Alert]:
    """Yield the alerts of this group, worst first."""
    yield source_unreadable()
    yield log_format_unknown(config.thresholds)
    yield source_stale(config.thresholds)


def source_unreadable() -> Alert:
    """Tell that a log cannot be read."""
    return Alert(
        "HiSparseSourceUnreadable",
        "warning",
        f"{EVERYTHING.gauge(m.SOURCE_UP)} == 0",
        "2m",
        f"{SOURCE} cannot be read (up = {{{{ $value }}}})",
        "The sidecar cannot read a log that it follows, so its engine is unobserved. Likely causes: permissions after a "
        "rotation, a volume that is gone, a unit that does not exist. First: read the file as the sidecar's user; "
        "`hisparse sidecar check` says what each source matches.",
    )


def log_format_unknown(limits: Thresholds) -> Alert:
    """Tell that a log is read and nothing in it is understood."""
    lines = EVERYTHING.counter(m.SOURCE_LINES)
    parsed = EVERYTHING.matching('outcome="parsed"')
    malformed = EVERYTHING.matching('outcome="malformed"').counter(m.SOURCE_LINES)
    understood = f"{parsed.counter(m.SOURCE_LINES)} > 0 or {EVERYTHING.counter(m.ENGINE_STARTS)} > 0"
    never = f"{SUM} ({lines}) > {limits.unknown_format_lines} unless {PER_SOURCE} ({understood})"
    cut = f"{SUM} (increase({malformed}[15m])) > {limits.malformed_lines}"
    not_now = f"{cut} unless {PER_SOURCE} ({parsed.rate(m.SOURCE_LINES)} > 0)"
    return Alert(
        "HiSparseLogFormatUnknown",
        "warning",
        f"({never}) or ({not_now})",
        "5m",
        f"{SOURCE}: {NUMBER} lines read and none understood",
        "Lines come, and none is a record that the sidecar knows, so its metrics are missing or old. Likely causes: a new "
        "version of the engine with another log format, another program's log, decode logging turned off. First: "
        "`hisparse sidecar parse` on the end of the log, and compare its decode lines with the documented formats.",
    )


def source_stale(limits: Thresholds) -> Alert:
    """Tell that a log has said nothing at all for long; an idle engine's health checks would still be in it."""
    age = f"time() - {EVERYTHING.gauge(m.SOURCE_LAST_SAMPLE_TIMESTAMP_SECONDS)}"
    silent = EVERYTHING.matching('state="silent"').gauge(m.SOURCE_STATE)
    window = f"({age} > {limits.source_stale_seconds}) < {limits.source_retired_seconds}"
    return Alert(
        "HiSparseSourceStale",
        "warning",
        f"{window} and {PER_SOURCE} ({silent} == 1)",
        "5m",
        f"{SOURCE}: no record for {DURATION}, and no other line either",
        "The log is silent, so nobody knows whether its engine is idle, hung or gone. Likely causes: no requests and no "
        "health checks, an engine that hangs, logging that goes elsewhere since a restart. First: ask the engine itself "
        "(its health endpoint); if it is well, let health checks be logged, or raise source_stale_seconds.",
    )
