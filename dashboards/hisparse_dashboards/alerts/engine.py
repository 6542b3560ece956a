"""Alerts about the engine: is there one, and does it work."""

from __future__ import annotations

from collections.abc import Iterator

from hisparse_dashboards import vocabulary as v
from hisparse_dashboards.alerts.wording import DURATION, NUMBER, WHO
from hisparse_dashboards.config import Config, Thresholds
from hisparse_dashboards.recording.vllm import STALLED_WINDOW
from hisparse_dashboards.rules import Alert
from hisparse_metrics.catalogue import SOURCE_UP


def alerts(config: Config) -> Iterator[Alert]:
    """Yield the alerts of this group, worst first."""
    yield engine_down(config)
    yield engine_stalled()
    yield vllm_stalled()
    yield retraction_storm(config.thresholds)
    yield metrics_absent()


def engine_down(config: Config) -> Alert:
    """Tell that an engine process died, or that its exporter cannot be reached."""
    dead = f"{v.ENGINE_UP} == 0"
    unreachable = f'up{{job=~"{config.job_pattern}"}} == 0 unless on (job, instance) ({dead})'
    return Alert(
        "HiSparseEngineDown",
        "critical",
        f"{dead} or ({unreachable})",
        "1m",
        "{{ $labels.instance }}{{ with $labels.engine_name }} {{ . }}{{ end }}: engine or exporter down (up = {{ $value }})",
        "The engine process has ended, or Prometheus cannot reach its exporter; its requests are lost or unobserved. "
        "Likely causes: a crash (look at the end of the engine's log), the kernel's out-of-memory killer, a host or "
        "network failure. First: see whether the process runs, then whether its /metrics answers.",
    )


_STALLED_CAUSES = (
    "Likely causes: a hung device or collective, a copy that never completes, a prefill that starves decoding. "
    "First: take a stack dump of the process and look at the device's errors, then restart the rank."
)


def engine_stalled() -> Alert:
    """Tell that an engine lives, has work, and takes no step."""
    return Alert(
        "HiSparseEngineStalled",
        "critical",
        v.same_rank(v.SINCE_LAST_STEP, f"{v.STALLED} == 1"),
        "1m",
        f"{WHO}: no decode step for {DURATION} while there is work",
        f"The engine process lives and has requests, but takes no decode step. {_STALLED_CAUSES}",
    )


def vllm_stalled() -> Alert:
    """Tell the same of a vLLM, which has no time of its last step."""
    return Alert(
        "HiSparseEngineStalled",
        "critical",
        v.same_rank(f'{v.RUNNING}{{engine="vllm"}}', f"{v.STALLED} == 1"),
        "1m",
        f"{WHO}: {NUMBER} running requests, and no new token for {STALLED_WINDOW}",
        f"vLLM answers scrapes and has running requests, but generates nothing. {_STALLED_CAUSES}",
        engine="vllm",
    )


def retraction_storm(limits: Thresholds) -> Alert:
    """Tell that requests keep losing their slots."""
    return Alert(
        "HiSparseRetractionStorm",
        "warning",
        f"60 * {v.RETRACTIONS} > {limits.retractions_per_minute:g}",
        "5m",
        f"{WHO}: {NUMBER} retractions a minute",
        "Running requests keep giving up their slots; each has to compute again what it had. Likely causes: requests grow "
        "longer than admission assumed, or the pools are too small for the load. First: admit fewer requests at once or "
        "reserve the worst case (--reserve worst-case), then enlarge the host pool.",
    )


def metrics_absent() -> Alert:
    """Tell that nothing at all is recorded, so that no other alert can fire."""
    return Alert(
        "HiSparseMetricsAbsent",
        "warning",
        f"absent({v.ENGINE_UP} or {SOURCE_UP})",
        "10m",
        "no HiSparse engine and no followed log is known (absent = {{ $value }})",
        "Prometheus knows no engine and no followed log, so none of the other alerts can fire. Likely causes: no target is scraped, a "
        "relabelling drops the series, the recording rules are not loaded, or every engine is gone. First: look at "
        "Prometheus' targets, then at its rules page for hisparse-recording.",
    )
