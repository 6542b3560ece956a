"""Logs that the sidecar follows as readings of ranks, from the families that a scrape would get."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.metrics_core import Metric as Family

from hisparse_metrics import catalogue
from hisparse_metrics.live.reading import Kind, Labels, RankReading
from hisparse_metrics.metric import Metric
from hisparse_metrics.sidecar.collector import SidecarCollector
from hisparse_metrics.sidecar.liveness import EngineState

_LEVELS: dict[Metric, str] = {
    catalogue.DEVICE_TOKENS: "device_tokens",
    catalogue.DEVICE_TOKEN_CAPACITY: "device_capacity",
    catalogue.DEVICE_TOKEN_USAGE: "device_usage",
    catalogue.HOST_TOKENS: "host_tokens",
    catalogue.HOST_TOKEN_CAPACITY: "host_capacity",
    catalogue.HOST_TOKEN_USAGE: "host_usage",
    catalogue.RUNNING_REQUESTS: "running",
    catalogue.WAITING_REQUESTS: "waiting",
    catalogue.GENERATION_TOKENS_PER_SECOND: "generation",
    catalogue.POOL_TOKENS: "pool_tokens",
    catalogue.POOL_TOKEN_USAGE: "pool_usage",
}
_TOTALS: dict[Metric, str] = {
    catalogue.PROMPT_TOKENS: "prompt",
    catalogue.RETRACTIONS: "retractions",
    catalogue.ENGINE_STARTS: "starts",
}
LOG_COLUMNS = frozenset(_LEVELS.values()) | {"prompt"}
"""What a log can say at all; the other columns stay empty for ever."""

_POOL = catalogue.LOG_POOL.name
_Samples = dict[str, float]


class LogReadings:
    """Reads the snapshot that ``collector`` published last."""

    def __init__(self, collector: SidecarCollector) -> None:
        self._collector = collector

    def __call__(self) -> Sequence[RankReading]:
        """Return a reading of every rank of every log."""
        families = self._collector.log_families()
        states = _states(families)
        levels, totals = _by_rank(families, _LEVELS), _by_rank(families, _TOTALS)
        ups = _by_rank(families, {catalogue.ENGINE_UP: "up"})
        steps = _by_rank(families, {catalogue.ENGINE_LAST_STEP_TIMESTAMP_SECONDS: "time"})
        return [
            _reading(
                labels,
                states.get(dict(labels).get("source", "")),
                ups.get(labels, {}).get("up"),
                steps.get(labels, {}).get("time"),
                levels.get(labels, {}),
                found,
            )
            for labels, found in totals.items()
        ]


def _reading(
    labels: Labels, state: EngineState | None, up: float | None, last_step: float | None, levels: _Samples, totals: _Samples
) -> RankReading:  # fmt: skip
    return RankReading(
        Kind.LOG,
        labels=labels,
        up=None if up is None else bool(up),
        incarnation=totals.get("starts", 0.0),
        stamp=(last_step, state, *totals.values()),
        is_current=bool(levels),
        verdict=state.value if state else "",
        last_step=last_step,
        levels=levels,
        totals=totals,
    )


def _by_rank(families: dict[str, Family], metrics: dict[Metric, str]) -> dict[Labels, _Samples]:
    """Return the samples of some metrics by rank; of several pools only the single one, or else the full one."""
    found: dict[Labels, _Samples] = {}
    for metric, name in metrics.items():
        family = families.get(metric.name)
        for sample in family.samples if family else ():
            if sample.labels.get(_POOL, "single") in ("single", "full"):
                labels = tuple((k, v) for k, v in sample.labels.items() if k != _POOL)
                found.setdefault(labels, {}).setdefault(name, sample.value)
    return found


def _states(families: dict[str, Family]) -> dict[str, EngineState]:
    """Return what each log tells of its engine, by source."""
    family = families.get(catalogue.SOURCE_STATE.name)
    samples = family.samples if family else []
    return {s.labels["source"]: EngineState(s.labels["state"]) for s in samples if s.value}
