"""The alerts: when an operator is told, with which number, the likely cause and the first thing to do.

They read the recorded vocabulary, so that they hold for every engine that is recorded.
"""

from __future__ import annotations

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.config import Config, Thresholds
from hisparse_dashboards.rules import Alert

WHO = "{{ $labels.instance }} {{ $labels.engine_name }} (dp {{ $labels.dp_rank }}, tp {{ $labels.tp_rank }})"
PERCENT = "{{ $value | humanizePercentage }}"


def all_alerts(config: Config) -> list[Alert]:
    """Return every alert, worst first."""
    limits = config.thresholds
    return [
        engine_down(config),
        engine_stalled(limits),
        host_pool_exhausted(limits),
        host_usage_critical(limits),
        host_usage_warning(limits),
    ]


def engine_down(config: Config) -> Alert:
    """Tell that an engine process died, or that its exporter cannot be reached."""
    unreachable = f'up{{job=~"{config.job_pattern}"}} == 0'
    return Alert(
        "HiSparseEngineDown",
        "critical",
        f"{v.ENGINE_UP} == 0 or {unreachable}",
        "1m",
        "{{ $labels.instance }}{{ with $labels.engine_name }} {{ . }}{{ end }}: engine or exporter down (up = {{ $value }})",
        "The engine process has ended, or Prometheus cannot reach its exporter; its requests are lost or unobserved. "
        "Likely causes: a crash (look at the end of the engine's log), the kernel's out-of-memory killer, a host or "
        "network failure. First: see whether the process runs, then whether its /metrics answers.",
    )


def engine_stalled(limits: Thresholds) -> Alert:
    """Tell that an engine lives, has running requests, and takes no step."""
    silent = f"{v.SINCE_LAST_STEP} > {limits.stalled_seconds}"
    return Alert(
        "HiSparseEngineStalled",
        "critical",
        v.same_rank(v.same_rank(silent, f"{v.RUNNING} > 0"), f"{v.ENGINE_UP} == 1"),
        "1m",
        f"{WHO}: no decode step for {{{{ $value | humanizeDuration }}}} while requests are running",
        "The engine process lives and has running requests, but takes no decode step. Likely causes: a hung device or "
        "collective, a copy that never completes, a prefill that starves decoding. First: take a stack dump of the "
        "process and look at the device's errors, then restart the rank.",
    )


def host_pool_exhausted(limits: Thresholds) -> Alert:
    """Tell that requests wait because every host slot is used or promised."""
    committed = f"{v.HOST_COMMITTED} >= {limits.host_pool_full:g}"
    return Alert(
        "HiSparseHostPoolExhausted",
        "critical",
        v.same_rank(committed, f"{v.WAITING} > 0"),
        "2m",
        f"{WHO}: {PERCENT} of the host pool is used or promised, and requests are waiting",
        "Every host slot is used or reserved for tokens still to be generated, so waiting requests cannot be admitted. "
        "Likely causes: more or longer requests than the pool was sized for, or one rank getting too many of them. "
        "First: send new requests elsewhere or lower the generation limit, then enlarge the host pool.",
    )


def host_usage_critical(limits: Thresholds) -> Alert:
    """Tell that a host pool is nearly full."""
    return _host_usage(
        "critical",
        limits.host_usage_critical,
        "2m",
        "The host pool is about to be full: new requests will wait, and running ones may be retracted.",
    )


def host_usage_warning(limits: Thresholds) -> Alert:
    """Tell that a host pool is filling up."""
    return _host_usage(
        "warning",
        limits.host_usage_warning,
        "5m",
        "The host pool is filling up; there is still time to act before requests wait.",
    )


def _host_usage(severity: str, threshold: float, hold: str, meaning: str) -> Alert:
    return Alert(
        "HiSparseHostUsageHigh",
        severity,
        f"{v.HOST_TOKEN_USAGE} > {threshold:g}",
        hold,
        f"{WHO}: host pool {PERCENT} full",
        f"{meaning} Likely causes: many long requests at once, or a pool too small for the load. First: look at Host "
        "tokens on the HiSparse Overview; if the growth goes on, limit admission or enlarge the host pool.",
    )
