"""One rank as its log tells of it: the last record of each phase, capacities, counters. Knows no clock and no label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hisparse_metrics import catalogue
from hisparse_metrics.metric import Metric
from hisparse_metrics.sglang import Event, EventKind, Value
from hisparse_metrics.sidecar.capacity import CapacityEstimate

_COUNTED: dict[EventKind, tuple[Metric, str]] = {
    EventKind.HOST_ALLOCATION_FAILED: (catalogue.HOST_ALLOCATION_FAILURES, ""),
    EventKind.DEVICE_ALLOCATION_FAILED: (catalogue.DEVICE_ALLOCATION_FAILURES, ""),
    EventKind.SYNCHRONOUS_SWAP_IN: (catalogue.SYNCHRONOUS_SWAP_INS, ""),
    EventKind.RETRACTION: (catalogue.RETRACTIONS, "retracted_requests"),
    EventKind.SERVER_READY: (catalogue.ENGINE_STARTS, ""),
    EventKind.CRASH: (catalogue.ENGINE_CRASHES, ""),
    EventKind.SCHEDULER_EXCEPTION: (catalogue.ENGINE_CRASHES, ""),
}
"""What each event counts: one, or the number that the line gives under a name."""

COUNTERS: tuple[Metric, ...] = (
    catalogue.PROMPT_TOKENS,
    catalogue.PREFIX_HIT_TOKENS,
    *dict.fromkeys(metric for metric, _ in _COUNTED.values()),
)
"""Every counter that a log can move; each is exported from 0 on, so that a first increase is seen."""

STATED = ("max_total_num_tokens", "kv_cache_tokens")
"""Figures of start-up lines that may be a pool's capacity."""

_PROMPT_TOKENS = catalogue.PROMPT_TOKENS.name
_PREFIX_HIT_TOKENS = catalogue.PREFIX_HIT_TOKENS.name


class Sample(NamedTuple):
    """The values of one record, and the Unix time at which they were true."""

    values: Mapping[str, Value]
    time: float


@dataclass(slots=True)
class RankState:
    """What a rank has said so far. Levels are the last record's; counters only rise."""

    decode: Sample | None = None
    prefill: Sample | None = None
    device: CapacityEstimate = field(default_factory=CapacityEstimate)
    host: CapacityEstimate = field(default_factory=CapacityEstimate)
    stated: dict[str, float] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    _settled: Sample | None = None

    @property
    def newest(self) -> Sample | None:
        """The last record of either phase."""
        return max(filter(None, (self.decode, self.prefill)), key=lambda sample: sample.time, default=None)

    def take_record(self, values: Mapping[str, Value], time: float) -> None:
        """Count what a record adds, and keep it as the newest of its phase."""
        if values.get("phase") == "decode":
            self.decode = Sample(values, time)  # Counts nothing: only the newest matters.
            return
        self.prefill = Sample(values, time)
        self.counters[_PROMPT_TOKENS] += _natural(values.get("new_tokens"))
        self.counters[_PREFIX_HIT_TOKENS] += _natural(values.get("cached_tokens"))

    def take_event(self, event: Event) -> None:
        """Count an event, or remember a start-up figure."""
        if event.kind is EventKind.CAPACITY:
            self.stated |= {name: float(event.values[name]) for name in STATED if event.values.get(name)}
            return
        metric, amount = _COUNTED[event.kind]
        self.counters[metric.name] += _natural(event.values.get(amount, 1)) if amount else 1

    def restarted(self) -> None:
        """Forget what the process before said of now: a new one has its own pools."""
        self.decode = self.prefill = None
        self.device, self.host = CapacityEstimate(), CapacityEstimate()

    def settle(self) -> None:
        """Narrow the capacities by the newest decode record; called once a batch, not once a record."""
        if self.decode is None or self.decode is self._settled:
            return
        self._settled = self.decode
        for estimate, tier in ((self.device, "device"), (self.host, "host")):
            tokens = _number(self.decode.values.get(f"{tier}_tokens"))
            usage = _number(self.decode.values.get(f"{tier}_token_usage"))
            if tokens is not None and usage is not None:
                estimate.observe(tokens, usage, self.stated.values())


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _natural(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
