"""Prometheus families of what the logs say: which view gives which catalogue metric its value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric as Family

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Metric
from hisparse_metrics.sglang import Value
from hisparse_metrics.sidecar.labels import EngineLabels
from hisparse_metrics.sidecar.liveness import UP, EngineState, is_fresh
from hisparse_metrics.sidecar.rank import COUNTERS, Sample
from hisparse_metrics.sidecar.views import LogView, RankView, Snapshot, SourceView

_DECODE_LEVELS: tuple[tuple[Metric, str], ...] = (
    (catalogue.DEVICE_TOKENS, "device_tokens"),
    (catalogue.DEVICE_TOKEN_USAGE, "device_token_usage"),
    (catalogue.HOST_TOKENS, "host_tokens"),
    (catalogue.HOST_TOKEN_USAGE, "host_token_usage"),
    (catalogue.GENERATION_TOKENS_PER_SECOND, "generation_throughput"),
)
_NEWEST_LEVELS: tuple[tuple[Metric, str], ...] = (
    (catalogue.RUNNING_REQUESTS, "running_requests"),
    (catalogue.WAITING_REQUESTS, "waiting_requests"),
)
_POOL_LEVELS: tuple[tuple[Metric, str, str], ...] = (
    (catalogue.POOL_TOKENS, "single", "tokens"),
    (catalogue.POOL_TOKENS, "full", "full_tokens"),
    (catalogue.POOL_TOKENS, "swa", "swa_tokens"),
    (catalogue.POOL_TOKENS, "mamba", "mamba_slots"),
    (catalogue.POOL_TOKEN_USAGE, "single", "token_usage"),
    (catalogue.POOL_TOKEN_USAGE, "full", "full_token_usage"),
    (catalogue.POOL_TOKEN_USAGE, "swa", "swa_token_usage"),
    (catalogue.POOL_TOKEN_USAGE, "mamba", "mamba_usage"),
)
"""Metric, value of the ``pool`` label, name in the record."""

_OF_SOURCE: tuple[tuple[Metric, Callable[[SourceView], float]], ...] = (
    (catalogue.SOURCE_BYTES, lambda source: source.bytes_read),
    (catalogue.SOURCE_LAG_BYTES, lambda source: source.lag_bytes),
    (catalogue.SOURCE_SKIPPED_BYTES, lambda source: source.skipped_bytes),
)
_OF_LOG: tuple[tuple[Metric, Callable[[LogView], float]], ...] = (
    (catalogue.SOURCE_RANKS, lambda log: len(log.ranks)),
    (catalogue.SOURCE_REFUSED_RECORDS, lambda log: log.refused_records),
    (catalogue.SOURCE_UNKNOWN_FIELDS, lambda log: log.unknown_fields),
)


@dataclass(slots=True)
class Families:
    """Families under construction, by exposed metric name."""

    by_name: dict[str, Family] = field(default_factory=dict)

    def add(self, metric: Metric, labels: dict[str, str], value: float) -> None:
        """Add one series; ``labels`` may be shared between series, so it is never changed."""
        family = self.by_name.get(metric.name)
        if family is None:
            family = self.by_name[metric.name] = empty_family(metric)
        family.add_sample(metric.name, labels, value)

    def add_if(self, metric: Metric, labels: dict[str, str], value: Value | None) -> None:
        """Add one series if there is a number for it."""
        if isinstance(value, (int, float)):
            self.add(metric, labels, value)


def empty_family(metric: Metric) -> Family:
    """Return a metric's family without samples; its unit where OpenMetrics lets a family declare it."""
    name = metric.name.removesuffix("_total")
    unit = metric.unit.value if name.endswith(f"_{metric.unit}") else ""
    return Family(name, metric.help, metric.kind.value, unit)


def build(snapshot: Snapshot, labels: EngineLabels, now: float, stale_after: float) -> dict[str, Family]:
    """Return the families of a snapshot as they are true at ``now``, by metric name."""
    families = Families()
    for source in snapshot.sources:
        for metric, value in _OF_SOURCE:
            families.add(metric, {"source": source.name}, value(source))
    ups = {log.name: log.name not in snapshot.unreadable for log in snapshot.logs}
    for name, up in (ups | {source.name: source.up for source in snapshot.sources}).items():
        families.add(catalogue.SOURCE_UP, {"source": name}, up)
    for log in snapshot.logs:
        state = log.liveness.state(now, stale_after)
        _add_log(families, log, state)
        for rank in log.ranks:
            identity = labels.of_rank(log.name, rank.key)
            _add_rank(families, rank, identity, UP[state])
            _add_levels(families, rank, identity, now, stale_after)
    families.add(catalogue.SIDECAR_STATE_FILE_FAILURES, {}, snapshot.state_file_failures)
    return families.by_name


def _add_log(families: Families, log: LogView, state: EngineState) -> None:
    labels = {"source": log.name}
    for metric, value in _OF_LOG:
        families.add(metric, labels, value(log))
    for outcome in catalogue.LINE_OUTCOME.values or ():
        families.add(catalogue.SOURCE_LINES, labels | {"outcome": outcome}, log.lines.get(outcome, 0))
    for each in EngineState:
        families.add(catalogue.SOURCE_STATE, labels | {"state": each.value}, float(each is state))
    if log.liveness.last_sample:
        families.add(catalogue.SOURCE_LAST_SAMPLE_TIMESTAMP_SECONDS, labels, log.liveness.last_sample)


def _add_rank(families: Families, rank: RankView, identity: dict[str, str], up: float | None) -> None:
    for metric in COUNTERS:
        families.add(metric, identity, rank.counters.get(metric.name, 0))
    if up is not None:
        families.add(catalogue.ENGINE_UP, identity, up)
    if rank.newest is not None and rank.newest.time:
        families.add(catalogue.ENGINE_LAST_STEP_TIMESTAMP_SECONDS, identity, rank.newest.time)


def _add_levels(
    families: Families, rank: RankView, identity: dict[str, str], now: float, stale_after: float
) -> None:
    decode, newest = _fresh(rank.decode, now, stale_after), _fresh(rank.newest, now, stale_after)
    if decode is not None:
        for metric, name in _DECODE_LEVELS:
            families.add_if(metric, identity, decode.values.get(name))
        for metric, pool, name in _POOL_LEVELS:
            families.add_if(metric, identity | {"pool": pool}, decode.values.get(name))
        _add_capacities(families, rank, identity, decode)
    for metric, name in _NEWEST_LEVELS:
        families.add_if(metric, identity, newest.values.get(name) if newest else None)


def _add_capacities(families: Families, rank: RankView, identity: dict[str, str], decode: Sample) -> None:
    if "device_tokens" in decode.values:
        families.add_if(catalogue.DEVICE_TOKEN_CAPACITY, identity, rank.device_capacity)
    if "host_tokens" in decode.values:
        families.add_if(catalogue.HOST_TOKEN_CAPACITY, identity, rank.host_capacity)


def _fresh(sample: Sample | None, now: float, stale_after: float) -> Sample | None:
    return sample if sample is not None and is_fresh(sample.time, now, stale_after) else None
