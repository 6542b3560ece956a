"""What a scrape sees: values that no longer change, made by the thread that reads the logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hisparse_metrics.sidecar.liveness import Liveness
from hisparse_metrics.sidecar.log_state import LogState
from hisparse_metrics.sidecar.rank import RankState, Sample
from hisparse_metrics.sidecar.ranks import RankKey


@dataclass(frozen=True, slots=True)
class RankView:
    """One rank's last records, capacities and counters (by metric name)."""

    key: RankKey
    decode: Sample | None
    prefill: Sample | None
    device_capacity: float | None
    host_capacity: float | None
    counters: Mapping[str, int]

    @property
    def newest(self) -> Sample | None:
        """The last record of either phase."""
        return max(filter(None, (self.decode, self.prefill)), key=lambda sample: sample.time, default=None)


@dataclass(frozen=True, slots=True)
class LogView:
    """One log: its ranks and its own numbers."""

    name: str
    ranks: tuple[RankView, ...]
    lines: Mapping[str, int]
    unknown_fields: int
    refused_records: int
    liveness: Liveness


@dataclass(frozen=True, slots=True)
class SourceView:
    """One configured source as of its last poll."""

    name: str
    up: bool
    bytes_read: int
    lag_bytes: int
    skipped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a scrape needs."""

    logs: tuple[LogView, ...] = ()
    sources: tuple[SourceView, ...] = ()
    state_file_failures: int = 0
    unreadable: frozenset[str] = frozenset()
    """Paths that cannot be read now."""


def view_of(name: str, log: LogState) -> LogView:
    """Copy what of a log may still change."""
    ranks = tuple(_rank_view(key, rank) for key, rank in log.ranks.items())
    return LogView(name, ranks, dict(log.lines), log.unknown_fields, log.refused_records, log.liveness)


def _rank_view(key: RankKey, rank: RankState) -> RankView:
    counters = dict(rank.counters)
    return RankView(key, rank.decode, rank.prefill, rank.device.value, rank.host.value, counters)
