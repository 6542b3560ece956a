"""What a deployer may want to change, in one place: panels and alerts read their thresholds from the same values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Levels at which a panel changes colour and an alert fires. Ratios are 0–1, durations seconds."""

    host_usage_warning: float = 0.85
    host_usage_critical: float = 0.95
    host_pool_full: float = 0.98
    device_usage_warning: float = 0.98
    hit_ratio_warning: float = 0.90
    stalled_seconds: int = 60

    def __post_init__(self) -> None:
        """Refuse an order that would make the critical level unreachable or useless."""
        if not 0.0 < self.host_usage_warning < self.host_usage_critical < self.host_pool_full <= 1.0:
            raise ValueError(
                "thresholds must satisfy 0 < host_usage_warning < host_usage_critical < host_pool_full <= 1, "
                f"got {self.host_usage_warning}, {self.host_usage_critical}, {self.host_pool_full}"
            )


@dataclass(frozen=True, slots=True)
class Config:
    """One deployment: thresholds, windows, and where its jobs and runbooks are found."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    rate_window: str = "5m"
    """Window of recorded rates: a few scrapes of the slowest source."""
    job_pattern: str = "hisparse.*"
    """Regular expression of the Prometheus jobs that scrape HiSparse exporters; HiSparseEngineDown watches them."""
    runbook_base: str = "docs/runbooks"
    """What precedes ``/<alert>.md`` in ``runbook_url``; set it to the address where you publish the runbooks."""


DEFAULT = Config()
