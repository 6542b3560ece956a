"""The contract between an engine and whoever watches it: plain values, no torch, no Prometheus.

An engine fills one :class:`StepStats` a step. The recorder writes it to the stats page and the decode log renders
it, so the log and the metrics can never disagree. Levels, totals and durations are different types because they
are summed, differenced and bucketed in different ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class HiSparseTokenStats(NamedTuple):
    """Used slots of both tiers, as the coordinator sees them (after SGLang pull request 22331).

    ``*_tokens`` count used slots (capacity − available); ``*_usage`` is used / capacity in [0, 1], and 0.0 where
    the capacity is 0.
    """

    device_tokens: int
    device_token_usage: float
    host_tokens: int
    host_token_usage: float


def usage(used: float, capacity: float) -> float:
    """Return used / capacity in [0, 1]; 0.0 when the capacity is 0."""
    return used / capacity if capacity > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The pools as the decode log prints them.

    ``tokens`` and ``token_usage`` are the single figure of engines without a split (the device pool's); the four
    ``hisparse_*`` fields hold the split and mean something only when ``is_hisparse`` is true.
    """

    tokens: int = 0
    token_usage: float = 0.0
    is_hisparse: bool = False
    hisparse_device_tokens: int = 0
    hisparse_device_token_usage: float = 0.0
    hisparse_host_tokens: int = 0
    hisparse_host_token_usage: float = 0.0

    @classmethod
    def from_token_stats(cls, stats: HiSparseTokenStats, *, is_hisparse: bool) -> PoolStats:
        """Build from a coordinator's token stats; the single figure is the device pool's."""
        return cls(
            tokens=stats.device_tokens,
            token_usage=stats.device_token_usage,
            is_hisparse=is_hisparse,
            hisparse_device_tokens=stats.device_tokens,
            hisparse_device_token_usage=stats.device_token_usage,
            hisparse_host_tokens=stats.host_tokens,
            hisparse_host_token_usage=stats.host_token_usage,
        )

    def get_decode_usage_msg_parts(self) -> list[str]:
        """Return the usage fragments of a decode log line, to be joined with ``", "``.

        With HiSparse on this is the split; with HiSparse off it is the old single figure, so that tools which
        read the old format keep working.
        """
        if not self.is_hisparse:
            return [f"#token: {self.tokens}, token usage: {self.token_usage:.2f}"]
        return [
            f"#gpu-token: {self.hisparse_device_tokens}, gpu token usage: {self.hisparse_device_token_usage:.2f}",
            f"#cpu-token: {self.hisparse_host_tokens}, cpu token usage: {self.hisparse_host_token_usage:.2f}",
        ]


class Levels(NamedTuple):
    """What is true now: gauges. Tokens and capacities are slots (one slot holds one token, all layers)."""

    device_tokens: int = 0
    device_token_capacity: int = 0
    device_tokens_spare: int = 0
    host_tokens: int = 0
    host_token_capacity: int = 0
    host_tokens_reserved: int = 0
    host_tokens_cached: int = 0
    index_tokens: int = 0
    index_token_capacity: int = 0
    running_requests: int = 0
    waiting_requests: int = 0
    staging_requests: int = 0


class Totals(NamedTuple):
    """What has happened since the engine started: counters, cumulative and never falling."""

    decode_steps: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_hit_tokens: int = 0
    swap_in_lookups: int = 0
    swap_in_hits: int = 0
    swap_in_misses: int = 0
    evictions: int = 0
    host_to_device_bytes: int = 0
    device_to_host_bytes: int = 0
    retractions: int = 0
    requests_stop: int = 0
    requests_length: int = 0
    requests_aborted: int = 0
    requests_rejected: int = 0
    requests_failed: int = 0
    verify_checks: int = 0
    verify_mismatches: int = 0
    invariant_violations: int = 0


class Duration(NamedTuple):
    """``count`` equal observations of ``seconds`` for the histogram whose catalogue field is ``field``."""

    field: str
    seconds: float
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, which nobody calls here


class StepStats(NamedTuple):
    """One engine step: levels now, totals so far, the durations seen in it.

    ``timestamp`` is Unix time in seconds. ``is_hisparse`` is false in resident mode, where no host tier exists.
    """

    timestamp: float
    is_hisparse: bool
    levels: Levels
    totals: Totals
    durations: tuple[Duration, ...] = ()

    @property
    def token_stats(self) -> HiSparseTokenStats:
        """The split of this step."""
        lv = self.levels
        return HiSparseTokenStats(
            lv.device_tokens,
            usage(lv.device_tokens, lv.device_token_capacity),
            lv.host_tokens,
            usage(lv.host_tokens, lv.host_token_capacity),
        )

    @property
    def pool(self) -> PoolStats:
        """The pools as the decode log prints them."""
        return PoolStats.from_token_stats(self.token_stats, is_hisparse=self.is_hisparse)


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Who publishes: constant labels of every series of one rank, and what ``hisparse_engine_info`` tells.

    ``engine_name`` tells apart two engines on one host; ranks tell apart the processes of one engine.
    """

    engine_name: str = "hisparse"
    model_name: str = ""
    dp_rank: int = 0
    pp_rank: int = 0
    tp_rank: int = 0
    ep_rank: int = 0
    version: str = ""
    mode: str = ""
    device: str = ""
    dtype: str = ""
