"""Timing of decode steps: warm-up, measured steps, throughput, inter-token latency, and what was swapped meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol


class Counts(NamedTuple):
    """Cumulative counts of the engine: rows looked up and missed, and bytes brought in. Zero in resident mode."""

    lookups: int = 0
    misses: int = 0
    host_to_device_bytes: int = 0


class Steppable(Protocol):
    """What is measured: an engine whose requests all decode."""

    def step(self) -> int:
        """Do one step; return how many tokens arrived."""

    def synchronize(self) -> None:
        """Wait until the device has done everything."""

    def counts(self) -> Counts:
        """Return the counts so far; after ``synchronize``."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` percent of ``values`` do not exceed, by nearest rank."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 100))
    return ordered[int(rank) - 1]


def measure(
    engine: Steppable, *, warmup: int, steps: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Return tokens/s, inter-token latency in ms and misses a step over ``steps`` steps.

    A step is from one return of ``step`` to the next: with tokens read a step late, that is how fast they arrive.
    """
    for _ in range(warmup):
        engine.step()
    engine.synchronize()
    before, tokens, times = engine.counts(), 0, [clock()]
    for _ in range(steps):
        tokens += engine.step()
        times.append(clock())
    engine.synchronize()
    wall, after = clock() - times[0], engine.counts()
    gaps = [1000 * (b - a) for a, b in pairwise(times)]
    return {
        "steps": steps,
        "tokens": tokens,
        "tokens_per_second": round(tokens / wall, 2),
        "step_ms": round(1000 * wall / steps, 4),
        **{f"itl_p{share}_ms": round(percentile(gaps, share), 4) for share in (50, 90, 99)},
        "misses_per_step": round((after.misses - before.misses) / steps, 2),
        "lookups_per_step": round((after.lookups - before.lookups) / steps, 2),
        "host_to_device_gb_per_second": round(
            (after.host_to_device_bytes - before.host_to_device_bytes) / wall / 1e9, 3
        ),
    }
