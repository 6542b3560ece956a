"""What is drawn: every rank's figures of one moment, and their totals. Plain values; ``None`` is "not known"."""

from __future__ import annotations

from dataclasses import dataclass

from hisparse_metrics.top.history import CurvePoint
from hisparse_metrics.top.reading import RankKey
from hisparse_metrics.top.state import State


@dataclass(frozen=True, slots=True)
class RankView:
    """One rank. Usages and ratios are 0 to 1, throughputs per second, durations in seconds."""

    key: RankKey
    name: str
    engine: str
    state: State
    about: str = ""
    """Model, mode, device: what the engine says of itself."""
    running: float | None = None
    staging: float | None = None
    waiting: float | None = None
    device_tokens: float | None = None
    device_capacity: float | None = None
    device_usage: float | None = None
    device_spare: float | None = None
    """Used device slots that hot buffers would give back."""
    host_tokens: float | None = None
    host_capacity: float | None = None
    host_usage: float | None = None
    host_reserved: float | None = None
    host_growth: float | None = None
    """Rise of the host usage per second, while it rises."""
    tokens_per_second: float | None = None
    hit_ratio: float | None = None
    lookups_per_second: float | None = None
    host_to_device: float | None = None
    device_to_host: float | None = None
    step_p50: float | None = None
    step_p99: float | None = None
    retractions: float | None = None
    retractions_per_second: float | None = None
    mismatches: float | None = None
    violations: float | None = None
    """Checks of rows, and audits of pools, that found the engine wrong."""
    since_step: float | None = None
    uptime: float | None = None
    curve: tuple[CurvePoint, ...] = ()

    @property
    def seconds_to_full(self) -> float | None:
        """When the host pool is full if it goes on filling as it does."""
        if self.host_usage is not None and self.host_usage >= 1.0:
            return 0.0
        if self.host_growth is None or self.host_usage is None:
            return None
        return (1.0 - self.host_usage) / self.host_growth

    @property
    def reserved_usage(self) -> float:
        """The promised share of the host pool."""
        return share(self.host_reserved, self.host_capacity)

    @property
    def spare_usage(self) -> float:
        """The share of the device pool that hot buffers would give back."""
        return share(self.device_spare, self.device_capacity)


@dataclass(frozen=True, slots=True)
class Totals:
    """All ranks together; tokens and requests that several ranks share count once."""

    states: tuple[tuple[State, int], ...] = ()
    running: float | None = None
    staging: float | None = None
    waiting: float | None = None
    device_tokens: float | None = None
    device_capacity: float | None = None
    device_usage: float | None = None
    device_spare: float | None = None
    host_tokens: float | None = None
    host_capacity: float | None = None
    host_usage: float | None = None
    host_reserved: float | None = None
    tokens_per_second: float | None = None
    hit_ratio: float | None = None
    host_to_device: float | None = None
    device_to_host: float | None = None
    retractions: float | None = None
    seconds_to_full: float | None = None
    first_full: str = ""
    """The rank whose host pool is full first, where there are several."""

    @property
    def reserved_usage(self) -> float:
        """The promised share of the host pools."""
        return share(self.host_reserved, self.host_capacity)

    @property
    def spare_usage(self) -> float:
        """The share of the device pools that hot buffers would give back."""
        return share(self.device_spare, self.device_capacity)


def share(part: float | None, capacity: float | None) -> float:
    """Return a part of a pool as a share of it, 0 where either is not known."""
    return part / capacity if part and capacity else 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one frame needs. ``trouble`` says why the source cannot be read now."""

    about: str
    time: float
    interval: float
    ranks: tuple[RankView, ...] = ()
    totals: Totals = Totals()
    note: str = ""
    trouble: str = ""
    read_ago: float | None = None
    """Seconds since the last successful read; ``None`` before the first."""
